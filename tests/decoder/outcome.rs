//! What comes of one line.

pub enum Outcome {
    /// It is no instruction to compare.
    Nothing,
    /// Operands compared.
    Same(u64),
    /// We do not know it: the mnemonic.
    Refused(String),
    /// Operands, in what it differs, and the mnemonic.
    Differs(u64, String),
}
