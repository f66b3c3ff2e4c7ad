//! Changes to a payload, gathered in order and applied in one pass.
