//! Any bytes as a line of JSON: members that lie inside it, or nothing; and what was
//! taken once is taken again when it stands alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::desk::json::{self, Object, Span};

fn look_at(text: &[u8], value: Span, depth: u32) {
    assert!(value.start < value.end && value.end <= text.len());
    let alone = value.of(text);
    let whole = Span::whole(alone);
    match alone[0] {
        b'{' => {
            // None where there are too many members.
            let Some(object) = Object::read(text, value) else {
                return;
            };
            let again = Object::read(alone, whole).expect("the same object");
            assert_eq!(object.members().len(), again.members().len());
            for &(key, value) in object.members() {
                assert!(key.start <= key.end && key.end < value.start);
                look_at(text, value, depth + 1);
            }
        }
        b'[' => {
            let Some(elements) = json::elements(text, value) else {
                return;
            };
            assert_eq!(json::elements(alone, whole).map(|found| found.len()), Some(elements.len()));
            for element in elements {
                look_at(text, element, depth + 1);
            }
        }
        b'"' => assert!(json::string(alone).is_some()),
        _ => {
            let _ = json::number(alone);
        }
    }
    assert!(depth <= json::MAX_DEPTH + 1);
}

fuzz_target!(|bytes: &[u8]| {
    let whole = Span::whole(bytes);
    if let Some(object) = Object::read(bytes, whole) {
        for &(_, value) in object.members() {
            look_at(bytes, value, 1);
        }
    }
    for element in json::elements(bytes, whole).into_iter().flatten() {
        look_at(bytes, element, 1);
    }
    let _ = (json::string(bytes), json::number(bytes), json::objects(bytes, whole));
});
