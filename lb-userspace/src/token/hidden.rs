//! Hidden texts: what the inside wrote, carried by the outside and read by us alone.

use super::{
    KEY_ID, Keys, SEAL_LEN, Signer, base64url, base64url_len, read_base64url, seal::Purpose,
};

/// Longest text that is hidden in one piece.
pub const HIDDEN_TEXT_MAX: usize = 1024;
/// Length of the longest hidden text as it is written.
pub const HIDDEN_MAX: usize = base64url_len(BYTES_MAX);

const BYTES_MAX: usize = (1 + HIDDEN_TEXT_MAX + SEAL_LEN).next_multiple_of(3);

/// What a hidden text is: one of one kind is none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hidden {
    /// Via header fields.
    Vias = 0x10,
    /// Route values.
    Routes = 0x20,
    /// A Call-ID.
    CallId = 0x30,
}

/// A text that was hidden, or will be.
#[derive(Clone, Debug)]
pub struct HiddenText {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl HiddenText {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        bytes: [0; BYTES_MAX],
        len: 0,
    };

    /// The text.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[1..=self.len]
    }

    /// Forgets it.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds to it; `None` when that is too much.
    pub fn put(&mut self, text: &[u8]) -> Option<()> {
        let end = self.len + text.len();
        if end > HIDDEN_TEXT_MAX {
            return None;
        }
        self.bytes[1 + self.len..=end].copy_from_slice(text);
        self.len = end;
        Some(())
    }
}

// A hidden text is: kind and key id in one byte; the text, and zeros up to a whole group of three, encrypted; tag.

impl Keys {
    /// Writes a text so that we alone can read it, and returns the length: a multiple of four. Equal texts look alike.
    pub fn write_hidden(
        &self,
        kind: Hidden,
        text: &HiddenText,
        to: &mut [u8; HIDDEN_MAX],
    ) -> usize {
        let mut bytes = text.bytes;
        bytes[0] = kind as u8 | self.current.id;
        let len = (1 + text.len + SEAL_LEN).next_multiple_of(3);
        let (signed, tag) = bytes[..len].split_at_mut(len - SEAL_LEN);
        // What was in there before is of no concern.
        signed[1 + text.len..].fill(0);
        let head = signed[0];
        tag.copy_from_slice(&self.current.seal(Purpose::Text, head, &mut signed[1..]));
        base64url(&bytes[..len], to)
    }

    /// Reads what [`Keys::write_hidden`] wrote under either key; `None` when it is nothing of that kind.
    pub fn read_hidden(&self, kind: Hidden, text: &[u8]) -> Option<HiddenText> {
        let (hidden, _) = self.read_signed_hidden(kind, text)?;
        Some(hidden)
    }

    /// The same, and which key it was written under.
    pub fn read_signed_hidden(&self, kind: Hidden, text: &[u8]) -> Option<(HiddenText, Signer)> {
        let mut hidden = HiddenText::EMPTY;
        let len = read_base64url(text, &mut hidden.bytes)?;
        let (signed, tag) = hidden
            .bytes
            .get_mut(..len)?
            .split_last_chunk_mut::<SEAL_LEN>()?;
        let (head, text) = signed.split_at_mut_checked(1)?;
        if head[0] & !KEY_ID != kind as u8 {
            return None;
        }
        // A wrong tag leaves the text as it was: there may be another key with this id.
        let mut keys = self.both().filter(|(_, key)| key.id == head[0] & KEY_ID);
        let (signer, _) = keys.find(|(_, key)| key.open(Purpose::Text, head[0], text, tag))?;
        hidden.len = text
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        Some((hidden, signer))
    }
}
