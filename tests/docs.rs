//! The documentation against the tool and against itself: links lead somewhere, options
//! and their defaults are those of the tool's table, and words that we agreed not to use
//! are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use segfault_analyzer::cli::desk_options::{
    CORE, DIFF, SHOW, SUMMARIZE_AT_DESK, SYMBOLIZE_AT_DESK,
};
use segfault_analyzer::cli::options::{Group, MONITORING};

const README_LINES: usize = 150;

/// Values of the manual's column of defaults for an option whose default the table leaves
/// out.
const NO_DEFAULT: [&str; 6] = [
    "off",
    "all",
    "0",
    "no limit",
    "standard output",
    "the kernel's own",
];
/// Words of our own, and sentences that no native writer would write.
const BANNED: [&str; 14] = [
    "rung",
    "rungs",
    "told",
    "under its eyes",
    "needs nothing of the host",
    "have to do",
    "has to do",
    "nothing given",
    "nothing that this tool can tell",
    "tells of",
    "what is no report",
    "at once one counts",
    "a rare one",
    "in the way that",
];
/// Names of the tool's own that contain such words.
const ALLOWED: [&str; 1] = ["--force-rung"];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a directory whose names end so, built and hidden ones left out.
fn files(directory: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![repository().join(directory)];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or("").to_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                left.push(path);
            } else if name.ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<PathBuf> {
    files(".", ".md")
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut out = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        if !is_code && !is_fence {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// The targets of `](…)`, `src="…"` and `srcset="…"`.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (opening, closing) in [
        ("](", ')'),
        ("src=\"", '"'),
        ("srcset=\"", '"'),
        ("href=\"", '"'),
    ] {
        let targets = text.split(opening).skip(1);
        found.extend(
            targets
                .filter_map(|rest| rest.split(closing).next())
                .map(str::to_owned),
        );
    }
    found
}

/// The anchors that GitHub gives a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let is_new = found.insert(anchor.clone());
        assert!(is_new, "two headings have the anchor #{anchor}");
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() >= 10, "{pages:?}");
    for page in pages {
        let text = prose(&fs::read_to_string(&page).expect("a page"));
        for link in links(&text) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().expect("a directory").join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() && target.extension().is_some_and(|it| it == "md") {
                let there = anchors(&prose(&fs::read_to_string(&target).expect("a page")));
                assert!(
                    there.contains(anchor),
                    "{}: no heading for {link}",
                    page.display()
                );
            }
        }
    }
}

/// Files that a page names, such as `src/main.rs`, are there. The pages describe the
/// layout with `src/base/`; before it is there, sources may have other names.
#[test]
fn named_files_exist() {
    let has_new_layout = repository().join("src/base").exists();
    for page in pages() {
        let text = prose(&fs::read_to_string(&page).expect("a page"));
        for name in text.split('`').skip(1).step_by(2) {
            let is_below = |room: &str| name.starts_with(room);
            let mut rooms = vec!["tests/", "bpf/", "docs/"];
            rooms.extend(has_new_layout.then_some("src/"));
            let is_path = rooms.into_iter().any(is_below);
            let is_plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
            if is_path && is_plain {
                let exists = repository().join(name).exists();
                assert!(exists, "{}: there is no {name}", page.display());
            }
        }
    }
}

/// Every page of docs/ can be reached from the README.
#[test]
fn the_readme_leads_to_every_page() {
    let mut reached = BTreeSet::new();
    let mut left = vec![repository().join("README.md")];
    while let Some(page) = left.pop() {
        let page = page.canonicalize().expect("a page");
        if !reached.insert(page.clone()) || page.extension().is_none_or(|it| it != "md") {
            continue;
        }
        for link in links(&prose(&fs::read_to_string(&page).expect("a page"))) {
            let path = page
                .parent()
                .expect("a directory")
                .join(link.split('#').next().unwrap_or(""));
            if path.is_file() {
                left.push(path);
            }
        }
    }
    for page in files("docs", ".md") {
        let page = page.canonicalize().expect("a page");
        assert!(
            reached.contains(&page),
            "no link leads to {}",
            page.display()
        );
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES, "{lines} lines");
}

#[test]
fn agreed_words() {
    for page in pages() {
        // What others wrote, and what is quoted word by word, is theirs.
        let mut text = fs::read_to_string(&page).expect("a page").to_lowercase();
        for allowed in ALLOWED {
            text = text.replace(allowed, "");
        }
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let flat = flat.replace(|c: char| !c.is_alphanumeric() && c != ' ', " ");
        let flat = format!(
            " {} ",
            flat.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        for banned in BANNED {
            assert!(
                !flat.contains(&format!(" {banned} ")),
                "{}: {banned}",
                page.display()
            );
        }
    }
}

/// An option as users see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Described {
    short: String,
    value: String,
    default: String,
}

/// `-d, --duration SECONDS`, by its long name; what follows two spaces explains it.
fn option(text: &str) -> Option<(String, Described)> {
    let term = text.split("  ").next()?;
    let mut words = term.split([' ', ',']).filter(|word| !word.is_empty());
    let mut word = words.next()?;
    let mut described = Described::default();
    if word.len() == 2 && word.starts_with('-') {
        described.short = word.to_owned();
        word = words.next()?;
    }
    word.strip_prefix("--").filter(|name| !name.is_empty())?;
    described.value = words.next().unwrap_or("").to_owned();
    // A value that may be left out.
    if let Some((name, value)) = word.split_once('[') {
        described.value = format!("[{value}");
        word = name;
    }
    Some((word.to_owned(), described))
}

/// The options of the tool's table.
fn of_tool(groups: &[Group]) -> BTreeMap<String, Described> {
    let options = groups.iter().flat_map(|(_, options)| *options);
    let described = options.map(|option| {
        let short = option.short.map(|short| format!("-{short}"));
        let described = Described {
            short: short.unwrap_or_default(),
            value: option.word().unwrap_or_default().to_owned(),
            default: option.shown_default(),
        };
        (format!("--{}", option.long), described)
    });
    described.collect()
}

/// The options of the manual's tables between two headings.
fn of_manual(manual: &str, from: &str, to: &str) -> BTreeMap<String, Described> {
    let begin = manual.find(from).expect("a heading");
    let part = &manual[begin..];
    let part = &part[..part.find(to).unwrap_or(part.len())];
    let mut found = BTreeMap::new();
    for line in part.lines().filter(|line| line.starts_with("| `-")) {
        let line = line.replace("\\|", "/");
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (name, mut described) = option(&cells[0].replace('`', "")).expect("an option");
        described.default = cells.get(2).map_or("", |cell| cell).to_owned();
        described.value = described.value.replace('/', "|");
        assert!(
            found.insert(name, described).is_none(),
            "{line} stands there twice"
        );
    }
    found
}

fn compare(what: &str, tool: &BTreeMap<String, Described>, manual: &BTreeMap<String, Described>) {
    let names = |options: &BTreeMap<String, Described>| options.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(tool),
        names(manual),
        "{what}: the tool on the left, the manual on the right"
    );
    for (name, in_tool) in tool {
        let in_manual = &manual[name];
        assert_eq!(in_tool.short, in_manual.short, "{what}: {name}");
        assert_eq!(in_tool.value, in_manual.value, "{what}: {name}");
        match in_tool.default.as_str() {
            "" => assert!(
                in_manual.default.is_empty() || NO_DEFAULT.contains(&in_manual.default.as_str()),
                "{what}: {name}: the tool has no default, the manual {}",
                in_manual.default
            ),
            default => assert_eq!(default, in_manual.default, "{what}: {name}"),
        }
    }
}

#[test]
fn the_manual_has_the_options_of_the_tool() {
    let manual = read("docs/manual.md");
    let options = of_manual(&manual, "\n## Options\n", "\n## Text reports\n");
    compare("segfault_analyzer", &of_tool(MONITORING), &options);
    for (command, groups, next) in [
        ("symbolize", SYMBOLIZE_AT_DESK, "\n### summarize\n"),
        ("summarize", SUMMARIZE_AT_DESK, "\n### show\n"),
        ("show", SHOW, "\n### diff\n"),
        ("diff", DIFF, "\n### core\n"),
        ("core", CORE, "\n## "),
    ] {
        let options = of_manual(&manual, &format!("\n### {command}\n"), next);
        compare(command, &of_tool(groups), &options);
    }
}

/// Options in the commands of a page that the tool does not have, and how many it has.
fn unknown_options(page: &str) -> (Vec<String>, usize) {
    let (mut unknown, mut known) = (Vec::new(), 0);
    for command in page.split("segfault_analyzer ").skip(1) {
        let command = command.split(['\n', '`', '#', '|', '>', ';', '&']).next();
        let mut words = command.unwrap_or("").split_whitespace().peekable();
        let groups = match words.peek() {
            Some(&"symbolize") => SYMBOLIZE_AT_DESK,
            Some(&"summarize") => SUMMARIZE_AT_DESK,
            Some(&"show") => SHOW,
            Some(&"diff") => DIFF,
            Some(&"core") => CORE,
            _ => MONITORING,
        };
        let options = groups.iter().flat_map(|(_, options)| *options);
        // What follows belongs to another command.
        let words = words.take_while(|word| *word != "--");
        for word in words.filter(|word| word.starts_with('-') && word.len() > 1) {
            let name = word.split('=').next().unwrap_or(word);
            let mut options = options.clone();
            let is_known = match name.strip_prefix("--") {
                Some(long) => options.any(|option| option.long == long),
                // The first of several letters.
                None => options.any(|option| option.short == name.chars().nth(1)),
            };
            match is_known {
                true => known += 1,
                false => unknown.push(format!("segfault_analyzer ... {word}")),
            }
        }
    }
    (unknown, known)
}

#[test]
fn commands_in_pages_have_options_of_the_tool() {
    let mut all = 0;
    for page in pages() {
        let (unknown, known) = unknown_options(&fs::read_to_string(&page).expect("a page"));
        assert!(unknown.is_empty(), "{}: {unknown:?}", page.display());
        all += known;
    }
    assert!(all >= 20, "only {all} options in commands");
    let (unknown, known) = unknown_options("`segfault_analyzer -t --frob`, segfault_analyzer -q\n");
    assert_eq!((unknown.len(), known), (2, 1));
}

/// A man page as one reads it: without troff's requests for fonts and characters.
fn plain_man_page() -> String {
    let mut text = read("docs/segfault_analyzer.1");
    for (troff, plain) in [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fP", ""),
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(ha", "^"),
        ("\\(ti", "~"),
        ("\\e", "\\"),
        ("\\&", ""),
    ] {
        text = text.replace(troff, plain);
    }
    text
}

#[test]
fn the_man_page_has_the_options_of_the_manual() {
    let page = plain_man_page();
    let manual = read("docs/manual.md");
    let options = of_manual(&manual, "\n## Options\n", "\n## Text reports\n");
    for (name, described) in options {
        let Described {
            short,
            value,
            default,
        } = described;
        let short = if short.is_empty() {
            short
        } else {
            format!("{short}, ")
        };
        let value = match value.is_empty() || value.starts_with('[') {
            true => value,
            false => format!(" {value}"),
        };
        let term = format!("\n.TP\n{short}{name}{value}\n");
        let (_, rest) = page.split_once(&term).unwrap_or_else(|| panic!("no{term}"));
        let entry = rest.split("\n.").next().unwrap_or("");
        if default != "off" {
            assert!(
                entry.contains(&format!("Default: {default}.")),
                "{name}: {entry}"
            );
        }
    }
    let sections = manual.lines().filter_map(|line| line.strip_prefix("## "));
    for section in sections {
        assert!(
            page.contains(&format!("\n.SH {}\n", section.to_uppercase())),
            "{section}"
        );
    }
}

/// What follows `before` in the code, up to a quotation mark.
fn tokens(before: &str, is_right: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files("src", ".rs") {
        let text = fs::read_to_string(path).expect("code");
        for rest in text.split(before).skip(1) {
            // After an arm's pattern, if there is one.
            let Some((between, rest)) = rest.split_once('"') else {
                continue;
            };
            let token = rest.split('"').next().unwrap_or("");
            let is_word =
                !token.is_empty() && token.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if is_word && is_right(between) {
                found.insert(token.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_cause_is_described() {
    let causes = tokens("Cause::", |between| {
        between
            .strip_suffix(" => ")
            .is_some_and(|name| name.chars().all(char::is_alphanumeric))
    });
    assert!(causes.len() >= 20, "{causes:?}");
    let manual = read("docs/manual.md");
    let schema = read("docs/report.schema.json");
    let page = plain_man_page();
    for cause in causes {
        assert!(
            manual.contains(&format!("| `{cause}` |")),
            "{cause}: not in docs/manual.md"
        );
        assert!(
            schema.contains(&format!("\"{cause}\"")),
            "{cause}: not in the schema"
        );
        assert!(
            page.contains(&format!("\n.TP\n{cause}\n")),
            "{cause}: not in the man page"
        );
    }
}

#[test]
fn every_lost_detail_is_described() {
    let is_next = |between: &str| between.trim().is_empty();
    let mut details = tokens("detail: ", is_next);
    details.extend(tokens("lose(", is_next));
    assert!(details.len() >= 10, "{details:?}");
    let page = read("docs/json.md");
    for detail in details {
        let has_row = page
            .lines()
            .any(|line| line.starts_with('|') && line.contains(&format!("`{detail}`")));
        assert!(has_row, "{detail}: not in docs/json.md");
    }
}

/// The manual shows the page of statistics and defines each of its lines.
#[test]
fn every_statistic_is_defined() {
    let manual = read("docs/manual.md");
    let page = read("tests/golden/manual_statistics.txt");
    let mut count = 0;
    for line in page.lines().filter(|line| line.starts_with("  ")) {
        let label = line.split(':').next().unwrap_or("").trim();
        assert!(
            manual.contains(&format!("\n  {label}:")),
            "{label}: not in the sample"
        );
        assert!(
            manual.contains(&format!("\n| `{label}` |")),
            "{label}: not defined"
        );
        count += 1;
    }
    assert!(count >= 20, "only {count} lines");
}
