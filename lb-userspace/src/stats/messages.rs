//! Messages by where they came from and went to, method and class: a counter for each combination.

use crate::forward::{CountedMethod, MessageClass};

/// Where a message came from, or who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The outside.
    Client,
    /// A backend, or a host of `outbound.trusted`.
    Backend,
}

/// Where a message came from and went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// `None`: we made it.
    pub from: Option<Side>,
    /// `None`: it went no further.
    pub to: Option<Side>,
}

impl Side {
    /// The name in statistics and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }

    const fn number(side: Option<Self>) -> usize {
        match side {
            Some(Self::Client) => 0,
            Some(Self::Backend) => 1,
            None => 2,
        }
    }
}

impl Direction {
    /// All that there are: nothing that we make stays with us.
    pub const ALL: [Self; 8] = {
        const SIDES: [Option<Side>; 3] = [Some(Side::Client), Some(Side::Backend), None];
        let mut all = [Self {
            from: None,
            to: None,
        }; 8];
        let mut number = 0;
        while number < all.len() {
            all[number] = Self {
                from: SIDES[number / 3],
                to: SIDES[number % 3],
            };
            number += 1;
        }
        all
    };

    /// Where it came from.
    pub const fn from_name(self) -> &'static str {
        match self.from {
            Some(side) => side.name(),
            None => "siplb",
        }
    }

    /// Where it went.
    pub const fn to_name(self) -> &'static str {
        match self.to {
            Some(side) => side.name(),
            None => "nobody",
        }
    }

    const fn number(self) -> usize {
        3 * Side::number(self.from) + Side::number(self.to)
    }
}

/// Words that the counters take.
pub(super) const WORDS: usize =
    Direction::ALL.len() * CountedMethod::ALL.len() * MessageClass::ALL.len();

/// The place of a counter among them; `None` for what cannot be.
#[inline]
pub(super) fn place(
    direction: Direction,
    method: CountedMethod,
    class: MessageClass,
) -> Option<usize> {
    let direction = direction.number();
    let row = direction * CountedMethod::ALL.len() + method as usize;
    let place = row * MessageClass::ALL.len() + class as usize;
    (place < WORDS).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_a_place_of_its_own() {
        let mut places = Vec::new();
        for (number, direction) in Direction::ALL.into_iter().enumerate() {
            assert_eq!(direction.number(), number);
            for method in CountedMethod::ALL {
                for class in MessageClass::ALL {
                    places.extend(place(direction, method, class));
                }
            }
        }
        assert_eq!(places, (0..WORDS).collect::<Vec<_>>());
        let nothing = Direction {
            from: None,
            to: None,
        };
        let (method, class) = (CountedMethod::Other, MessageClass::Request);
        assert_eq!(place(nothing, method, class), None);
    }
}
