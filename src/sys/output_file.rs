//! The raw calls behind the output file.
