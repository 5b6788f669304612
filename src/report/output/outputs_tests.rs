use std::fs;
use std::io::pipe;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::*;

fn scratch(name: &str) -> PathBuf {
    let name = format!("segfault_outputs_{}_{name}", std::process::id());
    std::env::temp_dir().join(name)
}

fn report(format: Format) -> Vec<u8> {
    match format {
        Format::Text => b"text\n".to_vec(),
        Format::Json => b"{}\n".to_vec(),
    }
}

#[test]
fn each_output_gets_its_format() {
    let (a, b) = (scratch("a"), scratch("b"));
    let wanted = [(Some(&*a), Format::Text), (Some(&*b), Format::Json)];
    let mut outputs = Outputs::open(&wanted, false).expect("two files");
    outputs.write(report).expect("both go on");
    assert_eq!(outputs.finish().expect("an end"), 0);
    assert_eq!(fs::read(&a).expect("a file"), b"text\n");
    assert_eq!(fs::read(&b).expect("a file"), b"{}\n");
    let _ = (fs::remove_file(a), fs::remove_file(b));
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_others() {
    let file = scratch("c");
    let (reader, writer) = pipe().expect("a pipe");
    let fd = PathBuf::from(format!("/dev/fd/{}", writer.as_raw_fd()));
    let wanted = [(Some(&*fd), Format::Json), (Some(&*file), Format::Text)];
    let mut outputs = Outputs::open(&wanted, false).expect("a pipe and a file");
    drop(reader);
    outputs.write(report).expect("the file goes on");
    outputs.write(report).expect("the file goes on");
    assert_eq!(fs::read(&file).expect("a file"), b"text\ntext\n");
    assert_eq!(outputs.reports_not_written(), 2);
    assert_eq!(outputs.finish().expect("an end"), 2);
    let _ = fs::remove_file(file);
}
