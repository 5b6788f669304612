//! Mangled names made readable: those of Rust, and those of C++.
//!
//! In: a raw symbol name. Out: bytes, at most [`MAX_OUTPUT`] of them. [`demangle`] is for
//! all that is known about a symbol: Rust's names lose their hash, so that a name is the
//! same in the next build. [`demangle_cpp`] is for what is printed: signatures keep the
//! whole name, by which overloaded functions differ.

mod expression;
pub mod known;
mod node;
mod parse;
mod print;
mod print_value;
mod types;

use std::borrow::Cow;
use std::fmt::{self, Write};

/// A short mangled name can stand for a very long one.
pub const MAX_OUTPUT: usize = 4096;

/// A writer that refuses text that does not fit.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_OUTPUT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The readable name, or `name` itself.
#[must_use]
pub fn demangle(name: &[u8]) -> Cow<'_, [u8]> {
    let mangled = name.starts_with(b"_ZN") || name.starts_with(b"_R");
    let text = std::str::from_utf8(name).ok().filter(|_| mangled);
    let Some(Ok(parsed)) = text.map(rustc_demangle::try_demangle) else {
        return Cow::Borrowed(name);
    };
    // C++ writes its nested names almost as Rust's legacy mangling does; only the
    // latter ends in a hash.
    let legacy = name.starts_with(b"_ZN");
    if legacy && !has_hash(name) {
        return Cow::Borrowed(name);
    }
    let mut out = Bounded(String::new());
    match write!(out, "{parsed:#}") {
        Ok(()) => Cow::Owned(out.0.into_bytes()),
        Err(fmt::Error) => Cow::Borrowed(name),
    }
}

/// A C++ name made readable, with the parameters of its function or without them; `None`
/// for every other name, and for one that is too long or nested too deeply.
#[must_use]
pub fn demangle_cpp(name: &[u8], parameters: bool) -> Option<Vec<u8>> {
    let mut parser = parse::Parser::new(name.strip_prefix(b"_Z")?);
    let root = parser.whole()?;
    print::print(&parser.tree, root, parameters, MAX_OUTPUT)
}

/// Whether it has `17h`, 16 hex digits and `E`: the last part of a legacy name, which a
/// suffix such as `.llvm.123` may follow.
fn has_hash(name: &[u8]) -> bool {
    name.windows(20).any(|part| {
        let (head, hash) = part.split_at(3);
        head == b"17h" && hash[16] == b'E' && hash[..16].iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str) -> String {
        String::from_utf8(demangle(name.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn rust_names_are_shown_without_their_hash() {
        assert_eq!(
            shown("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE"),
            "core::fmt::Formatter::pad"
        );
        assert_eq!(
            shown("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.8765"),
            "core::fmt::Formatter::pad"
        );
        assert_eq!(
            shown("_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE"),
            "<Test + 'static as foo::Bar<Test>>::bar"
        );
        assert_eq!(shown("_RNvCs1234_7mycrate4main"), "mycrate::main");
    }

    #[test]
    fn other_names_stay_as_they_are() {
        for name in ["main", "_R", "_ZN", "_Z", ""] {
            assert_eq!(shown(name), name);
        }
        assert_eq!(&*demangle(b"_R\xff"), b"_R\xff");
        assert_eq!(shown("_ZN3foo3barEv"), "_ZN3foo3barEv");
    }

    fn cpp(name: &str, parameters: bool) -> Option<String> {
        demangle_cpp(name.as_bytes(), parameters).map(|name| String::from_utf8(name).unwrap())
    }

    /// What `c++filt` writes.
    #[test]
    fn names_of_cpp_are_readable() {
        for (name, readable) in [
            ("_ZN3foo3barEv", "foo::bar()"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backEOi",
                "std::vector<int, std::allocator<int> >::push_back(int&&)",
            ),
            ("_ZNKSs4sizeEv", "std::basic_string<char, std::char_traits<char>, std::allocator<char> >::size() const"),
            ("_ZN1AC2ERKS_", "A::A(A const&)"),
            ("_ZN1AD0Ev", "A::~A()"),
            ("_ZTV1A", "vtable for A"),
            ("_ZThn16_N1B1fEv", "non-virtual thunk to B::f()"),
            ("_Z1fIiEvT_PFvS0_E", "void f<int>(int, void (*)(int))"),
            ("_ZZ4mainENKUliE_clEi", "main::{lambda(int)#1}::operator()(int) const"),
            ("_ZN12_GLOBAL__N_11fEv.part.0", "(anonymous namespace)::f() [clone .part.0]"),
            (
                "_ZNSt17_Function_handlerIFviEZN1a1fIiEEvT_EUliE_E9_M_invokeERKSt9_Any_dataOi",
                "std::_Function_handler<void (int), a::f<int>(int)::{lambda(int)#1}>::_M_invoke(std::_Any_data const&, int&&)",
            ),
            ("_ZZN1a1fIiEEvT_ENKUliE_clEi", "a::f<int>(int)::{lambda(int)#1}::operator()(int) const"),
            ("_ZplRK1AS1_", "operator+(A const&, A const&)"),
            (
                "_ZN1a1fIiEENSt9enable_ifIXsr3std9is_signedIT_EE5valueEvE4typeES2_",
                "std::enable_if<std::is_signed<int>::value, void>::type a::f<int>(int)",
            ),
            (
                "_ZN1a1fIiEENSt9enable_ifIXsr3stdE11is_signed_vIT_EEvE4typeES2_",
                "std::enable_if<std::is_signed_v<int>, void>::type a::f<int>(int)",
            ),
            // An empty pack leaves no space behind it.
            ("_ZTI1aI1bI1cJEEJEE", "typeinfo for a<b<c>>"),
            ("_ZGRZ1fvE3one_", "reference temporary #0 for f()::one"),
        ] {
            assert_eq!(cpp(name, true).as_deref(), Some(readable), "{name}");
        }
        let short = cpp("_ZNSt6vectorIiSaIiEE9push_backEOi", false);
        assert_eq!(
            short.as_deref(),
            Some("std::vector<int, std::allocator<int> >::push_back")
        );
        for name in ["main", "_Z", "_ZN", "_ZN3fo", "_ZN3foo3barEv@plt"] {
            assert_eq!(cpp(name, true), None, "{name}");
        }
        assert_eq!(demangle_cpp(b"_ZN\xff\xff", true), None);
    }

    /// Names that are nested deeply, that have many parts, or stand for very long ones.
    #[test]
    fn work_for_names_of_cpp_is_bounded() {
        let begin = std::time::Instant::now();
        let parts = [
            "P",
            "N1a",
            "I",
            "1aIX",
            "S_",
            "F",
            "T_",
            "Dp",
            "A1_",
            "M1a",
            "K",
            "B1b",
            ".a",
            "cvT_I",
            "Xad",
            "LZ",
            "R",
            "U1a",
            "DpT_",
            "sZ",
            "cl",
            "Z1f",
            "UlT_",
            "J",
            "Xsr3stdI",
            "cvT_IXsr3stdI",
            "L1aX",
        ];
        for part in parts {
            for before in [
                "",
                "1f",
                "1fI",
                "N1f",
                "1fi",
                "1fILi",
                "N1acvT_I",
                "1fIJiiEEv",
            ] {
                for after in ["", "E", "Ev", "EEE"] {
                    let name = format!("_Z{before}{}{after}", part.repeat(20_000));
                    let shown = demangle_cpp(name.as_bytes(), true);
                    assert!(shown.is_none_or(|shown| shown.len() <= MAX_OUTPUT));
                }
            }
        }
        // Each part is a pointer or a reference to the one before.
        for letter in ["P", "R", "K", "VP", "Dp"] {
            let mut name = format!("_Z1fi{letter}1a");
            for index in 0..5000 {
                let digit = |value: u32| char::from_digit(value, 36).unwrap().to_ascii_uppercase();
                let (high, low) = (index / 36, index % 36);
                name.push_str(&format!(
                    "{letter}S{}{}{}_",
                    digit(high / 36),
                    digit(high % 36),
                    digit(low)
                ));
            }
            assert_eq!(demangle_cpp(name.as_bytes(), true), None);
        }
        // Each part has the one before twice.
        let mut name = String::from("_Z1fI1aIiiE");
        for index in 0..30u8 {
            let again = char::from(b'0' + index % 10);
            name.push_str(&format!("1bIS{again}_S{again}_S{again}_E"));
        }
        name.push_str("Evv");
        assert!(cpp(&name, true).is_none_or(|shown| shown.len() <= MAX_OUTPUT));
        assert!(begin.elapsed().as_secs() < 5);
    }

    #[test]
    fn output_is_bounded() {
        // Each back reference doubles what is written.
        let mut name = String::from("_RNvC1a1b");
        name = name.replace("NvC1a1b", "INvC1a1b");
        for _ in 0..40 {
            name.push_str("TB2_B2_E");
        }
        name.push('E');
        assert!(demangle(name.as_bytes()).len() <= MAX_OUTPUT);
    }
}
