//! Rust that ends itself from two places each, built with panic=abort:
//! panicking index1 | index2 | unwrap1 | … | abort2.
//!
//! Each dies by SIGABRT (SI_TKILL). Chain: ... first::KIND or second::KIND, main; of
//! thread the closure that is its main.

use std::hint::black_box;

macro_rules! ways {
    ($name:ident, $number:literal) => {
        mod $name {
            use super::black_box;

            #[inline(never)]
            pub fn index(numbers: &[u32]) -> u32 {
                numbers[black_box(7 + $number)] + 1
            }

            #[inline(never)]
            pub fn unwrap() -> u32 {
                black_box(None::<u32>).unwrap() + $number
            }

            /// Through functions of the library that are generic, which are compiled into the
            /// program and stay calls where nothing is optimized.
            #[inline(never)]
            pub fn slice(text: &str) -> u32 {
                text[black_box(8 + $number)..].len() as u32
            }

            #[inline(never)]
            pub fn message() -> u32 {
                if black_box(true) {
                    panic!("of {}", $number);
                }
                $number
            }

            struct Fragile(u32);

            impl Drop for Fragile {
                #[inline(never)]
                fn drop(&mut self) {
                    assert_eq!(black_box(self.0), $number + 1);
                }
            }

            #[inline(never)]
            pub fn drop() -> u32 {
                black_box(Fragile(black_box($number))).0
            }

            #[inline(never)]
            pub fn thread() -> u32 {
                let thread = std::thread::spawn(|| index(&[1, 2, 3]));
                thread.join().unwrap_or(0) + $number
            }

            #[inline(never)]
            pub fn abort() -> u32 {
                if black_box($number) > 0 {
                    std::process::abort();
                }
                black_box($number)
            }
        }
    };
}

ways!(first, 1);
ways!(second, 2);

fn main() {
    let value = match std::env::args().nth(1).as_deref() {
        Some("index1") => first::index(&[1, 2, 3]),
        Some("index2") => second::index(&[1, 2, 3]),
        Some("unwrap1") => first::unwrap(),
        Some("unwrap2") => second::unwrap(),
        Some("slice1") => first::slice("short"),
        Some("slice2") => second::slice("short"),
        Some("message1") => first::message(),
        Some("message2") => second::message(),
        Some("drop1") => first::drop(),
        Some("drop2") => second::drop(),
        Some("thread1") => first::thread(),
        Some("thread2") => second::thread(),
        Some("abort1") => first::abort(),
        Some("abort2") => second::abort(),
        _ => 0,
    };
    black_box(value);
}
