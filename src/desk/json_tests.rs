use super::*;

/// Numbers that are the same in every run: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The members as text, or `None`.
fn split(text: &str) -> Option<Vec<(String, String)>> {
    let text = text.as_bytes();
    let shown = |span: Span| String::from_utf8_lossy(span.of(text)).into_owned();
    let object = Object::read(text, Span::whole(text))?;
    let members = object.members().iter();
    Some(
        members
            .map(|&(key, value)| (shown(key), shown(value)))
            .collect(),
    )
}

fn items(text: &str) -> Option<Vec<String>> {
    let shown = |span: Span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned();
    let found = elements(text.as_bytes(), Span::whole(text.as_bytes()))?;
    Some(found.into_iter().map(shown).collect())
}

/// Whether it is one value of JSON.
fn is_json(text: &[u8]) -> bool {
    let wrapped = [b"[", text, b"]"].concat();
    elements(&wrapped, Span::whole(&wrapped)).is_some_and(|found| found.len() == 1)
}

#[test]
fn members_are_shown_as_they_stand() {
    let text = " { \"a\" : 1 ,\"b\":[ {\"c\" : \"}\\\"\"} , [] ], \"\\u0064\":null,\"a\":-0.5e+3} ";
    let expected = [
        ("a", "1"),
        ("b", "[ {\"c\" : \"}\\\"\"} , [] ]"),
        ("\\u0064", "null"),
        ("a", "-0.5e+3"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(split(text).unwrap(), expected);
    assert_eq!(split("{}"), Some(vec![]));
    assert_eq!(items(" [ ] "), Some(vec![]));
    assert_eq!(items("[1,\"x\" , {}]").unwrap(), ["1", "\"x\"", "{}"]);
}

#[test]
fn what_is_no_json_is_refused() {
    for wrong in [
        "",
        " ",
        "{",
        "}",
        "{]",
        "{}}",
        "{} {}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":+1}",
        "{\"a\":nul}",
        "{\"a\":nulll}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"}",
        "{\"a\":\"\\\"}",
        "{\"a\":[1}",
        "{\"a\":[1,]}",
        "{\"a\":{\"b\":1]}",
        "{\"a\":{\"b\"}}",
        "[]",
        "\"a\"",
        "1",
    ] {
        assert_eq!(split(wrong), None, "{wrong:?}");
    }
    for wrong in [
        "[", "]", "[1", "[1,]", "[,1]", "[1 2]", "[1]]", "{}", "[\"]",
    ] {
        assert_eq!(items(wrong), None, "{wrong:?}");
    }
}

#[test]
fn brackets_are_counted_and_not_recursed_into() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let most = MAX_DEPTH as usize;
    assert!(items(&format!("[{}]", nested(most))).is_some());
    assert!(items(&format!("[{}]", nested(most + 1))).is_none());
    let objects = "{\"a\":".repeat(most) + "[]" + &"}".repeat(most);
    assert!(split(&objects).is_some());
    assert!(items(&"[".repeat(5_000_000)).is_none());
    assert!(items(&format!("[{}", "{\"a\":[".repeat(1_000_000))).is_none());
}

#[test]
fn strings_are_decoded() {
    let decoded =
        |text: &str| string(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(
        decoded(r#""a\"\\\/\b\f\n\r\tA\u00e9\u65E5\ud83d\ude00é""#).unwrap(),
        "a\"\\/\u{8}\u{c}\n\r\tAé日😀é"
    );
    assert_eq!(decoded(r#""""#).unwrap(), "");
    // Halves of pairs.
    assert_eq!(decoded(r#""\ud83dx""#).unwrap(), "\u{fffd}x");
    assert_eq!(decoded(r#""\ude00""#).unwrap(), "\u{fffd}");
    assert_eq!(decoded(r#""\ud83d\ud83d\ude00""#).unwrap(), "\u{fffd}😀");
    assert_eq!(decoded(r#""\ud83d\u0041""#).unwrap(), "\u{fffd}A");
    assert_eq!(decoded(r#""\ud83d\n""#).unwrap(), "\u{fffd}\n");
    for wrong in [
        "",
        "\"",
        "null",
        "1",
        r#""\""#,
        r#""\u00""#,
        r#""\ud83d\u00""#,
        r#""\q""#,
    ] {
        assert_eq!(decoded(wrong), None, "{wrong}");
    }
    // What is not UTF-8 stays.
    assert_eq!(string(b"\"a\xffb\"").unwrap(), b"a\xffb");
}

#[test]
fn numbers_are_whole_and_positive() {
    assert_eq!(number(b"0"), Some(0));
    assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
    for wrong in [
        "18446744073709551616",
        "",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "null",
        "\"1\"",
        "0x1",
    ] {
        assert_eq!(number(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn everything_that_the_tool_writes_comes_back() {
    let mut random = Random(1);
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..random.below(40))
            .map(|_| random.below(256) as u8)
            .collect();
        let mut quoted = String::from("\"");
        crate::report::output::escape::json(&mut quoted, &bytes);
        quoted.push('"');
        let mut expected = String::new();
        for chunk in bytes.utf8_chunks() {
            expected.push_str(chunk.valid());
            for byte in chunk.invalid() {
                expected.push_str(&format!("\\x{byte:02x}"));
            }
        }
        assert_eq!(string(quoted.as_bytes()), Some(expected.into_bytes()));
    }
}

/// Against serde_json: texts that were right, with some bytes changed.
#[test]
fn another_parser_agrees() {
    const TEXTS: [&str; 3] = [
        r#"{"a":[1,-2.5e+3,null,true,false,{"b":"\"\\\/A\n"}],"c":{},"d":[]}"#,
        r#"[[[["x"],[]],{"k":[{"v":0}]}],-0,10,1E5,"\t"]"#,
        r#"{"stack_trace":[{"address":"0x1","symbol":null,"line":7}],"lost":[""]}"#,
    ];
    const BYTES: &[u8] = b"{}[]\",:\\u0123456789abefnrtlsE.+- \n\x00x";
    let mut random = Random(7);
    let (mut right, mut wrong) = (0, 0);
    for round in 0..200_000 {
        let mut text = TEXTS[round % TEXTS.len()].as_bytes().to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(text.len());
            let byte = BYTES[random.below(BYTES.len())];
            match random.below(3) {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => drop(text.remove(at)),
            }
        }
        let ours = is_json(&text);
        match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(_) => {
                assert!(ours, "{}", text.escape_ascii());
                right += 1;
            }
            // It wants numbers to fit, and pairs to be whole.
            Err(error) if error.to_string().contains("out of range") => {}
            Err(error) if error.to_string().contains("surrogate") => {}
            Err(error) if error.to_string().contains("hex escape") => {}
            Err(error) => {
                assert!(!ours, "{error}: {}", text.escape_ascii());
                wrong += 1;
            }
        }
    }
    assert!(right > 20_000 && wrong > 20_000, "{right} {wrong}");
}

#[test]
fn any_bytes_give_an_answer() {
    let mut random = Random(99);
    for _ in 0..100_000 {
        let mut bytes: Vec<u8> = (0..random.below(60))
            .map(|_| match random.below(3) {
                0 => random.below(256) as u8,
                _ => b"{}[]\",:\\ud8a0"[random.below(13)],
            })
            .collect();
        bytes.insert(0, b"{[\""[random.below(3)]);
        let inside = |span: Span| assert!(span.start <= span.end && span.end <= bytes.len());
        if let Some(object) = Object::read(&bytes, Span::whole(&bytes)) {
            for &(key, value) in object.members() {
                inside(key);
                inside(value);
                let _ = (string(value.of(&bytes)), number(value.of(&bytes)));
            }
        }
        let found = elements(&bytes, Span::whole(&bytes));
        found.into_iter().flatten().for_each(inside);
        let _ = string(&bytes);
        // Spans of another text.
        let other = |start, end| Span { start, end };
        assert!(Object::read(&bytes, other(50, 40)).is_none());
        assert!(elements(&bytes, other(500, 4000)).is_none());
    }
}

#[test]
fn members_are_found_by_name() {
    let text = br#"{"a":1,"b":null,"\u0061":2,"a":"x"}"#;
    let object = Object::read(text, Span::whole(text)).unwrap();
    assert_eq!(object.value("a"), b"\"x\"", "the last one");
    assert_eq!((object.value("b"), object.value("c")), (&b""[..], &b""[..]));
    assert_eq!(object.place("b").unwrap().of(text), b"null");
    assert_eq!(object.place("c"), None);
}

#[test]
fn what_is_too_large_is_refused() {
    let object = |count: usize| format!("{{{}}}", vec!["\"a\":1"; count].join(","));
    assert_eq!(split(&object(MAX_MEMBERS)).unwrap().len(), MAX_MEMBERS);
    assert_eq!(split(&object(MAX_MEMBERS + 1)), None);
    let array = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(items(&array(MAX_ELEMENTS)).unwrap().len(), MAX_ELEMENTS);
    assert_eq!(items(&array(MAX_ELEMENTS + 1)), None);
}
