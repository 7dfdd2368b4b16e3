//! The table: one line an archive.

use crate::craft::{
    BLOCK, CHECKSUM, MAGIC, MODE, MTIME, PREFIX, SIZE, any, broken, deep, dir, end, file, hard,
    link, long_link, long_name, old_sparse, pax, record, tar, with, with_signed_checksum,
};

/// What is to become of an archive.
pub(crate) enum Fate {
    /// Refused, in these words among others.
    No(&'static str),
    /// Taken: directories with a slash behind their names, links with `>` and their targets, files; and the modes that are
    /// not the usual ones.
    Yes(&'static str),
}

use Fate::{No, Yes};

/// What it is, the archive, and what becomes of it.
pub(crate) type Case = (&'static str, Vec<u8>, Fate);

pub(crate) fn all() -> impl Iterator<Item = Case> {
    let parts: [fn() -> Vec<Case>; 11] = [
        names,
        links,
        kinds,
        sizes,
        checksums,
        attributes,
        long_names,
        bombs,
        duplicates,
        modes_and_times,
        the_end,
    ];
    parts.into_iter().flat_map(|part| part())
}

#[rustfmt::skip]
fn names() -> Vec<Case> {
    vec![
        ("an absolute name", tar(&[file("/hostile-was-here")]), No("names \"/hostile-was-here\"")),
        ("an absolute name in /tmp", tar(&[file("/tmp/hostile-was-here")]), No("names \"/tmp/hostile-was-here\"")),
        ("two slashes at the start", tar(&[file("//hostile-was-here")]), No("cannot lie beneath")),
        ("a slash behind ./", tar(&[file(".//hostile-was-here")]), No("cannot lie beneath")),
        (".. at the start", tar(&[file("../outside/x")]), No("names \"../outside/x\"")),
        (".. behind ./", tar(&[file("./../outside/x")]), No("cannot lie beneath")),
        (".. in the middle", tar(&[file("a/../../outside/x")]), No("cannot lie beneath")),
        (".. in the middle, leading nowhere else", tar(&[file("a/../b")]), No("cannot lie beneath")),
        (".. at the end", tar(&[dir("a/..")]), No("cannot lie beneath")),
        (".. alone", tar(&[dir("..")]), No("cannot lie beneath")),
        ("a directory beside", tar(&[dir("../outside")]), No("cannot lie beneath")),
        (".. in a ustar prefix", tar(&[with(MAGIC, b"ustar\x0000", with(PREFIX, b"../outside", file("x")))]), No("../outside/x")),
        ("an absolute ustar prefix", tar(&[with(MAGIC, b"ustar\x0000", with(PREFIX, b"/tmp", file("hostile-was-here")))]), No("/tmp/hostile-was-here")),
        (". in the middle", tar(&[file("a/./b")]), No("cannot lie beneath")),
        ("./ twice", tar(&[file("././a")]), No("cannot lie beneath")),
        ("an empty component", tar(&[file("a//b")]), No("cannot lie beneath")),
        ("no name", tar(&[file("")]), No("names \"\"")),
        ("the root of everything", tar(&[dir("/")]), No("cannot lie beneath")),
        ("a file that is .", tar(&[file(".")]), No("cannot lie beneath")),
        ("a link that is .", tar(&[link(".", "../outside")]), No("cannot lie beneath")),
        ("the directory itself", tar(&[dir("./"), file("./a")]), Yes("a")),
        ("a NUL ends a name in a header", tar(&[file("a\0/../../x")]), Yes("a")),
        ("a NUL in a long name", tar(&[long_name("a\0b\0"), file("a")]), No("cannot lie beneath")),
        ("a NUL in a PAX name", tar(&[pax(record("path", "a\0b")), file("a")]), No("cannot lie beneath")),
        ("5,000 bytes", tar(&[long_name(vec![b'a'; 5000]), file("a")]), No("cannot lie beneath")),
        ("a component of 256 bytes", tar(&[long_name(vec![b'a'; 256]), file("a")]), No("cannot lie beneath")),
        ("300 components", tar(&[long_name(deep(300)), file("a")]), Yes("…")),
        ("2,000 components", tar(&[long_name(deep(2000)), file("a")]), No("more than 1000 entries")),
        ("3,000 components", tar(&[long_name(deep(3000)), file("a")]), No("cannot lie beneath")),
        ("no UTF-8", tar(&[file(b"a\xff")]), Yes("a\u{fffd}")),
        ("a newline", tar(&[file("a\nb")]), Yes("a\nb")),
        ("a terminal's commands", tar(&[file("\x1b[2J/../a")]), No("\\u{1b}[2J/../a")),
        ("a slash behind a file", tar(&[file("a/")]), No("cannot lie beneath")),
        ("a slash behind a file of the first tars", tar(&[any(0, "a/", "", "")]), No("cannot lie beneath")),
        ("backslashes are letters", tar(&[file("..\\..\\x")]), Yes("..\\..\\x")),
        ("a drive is a letter", tar(&[file("C:\\x")]), Yes("C:\\x")),
        ("three dots are a name", tar(&[file("...")]), Yes("...")),
    ]
}

#[rustfmt::skip]
fn links() -> Vec<Case> {
    vec![
        ("a file through a link", tar(&[link("l", "../outside"), file("l/x")]), No("lies beneath \"l\", which is not a directory")),
        ("a file through an absolute link", tar(&[link("l", "/tmp"), file("l/hostile-was-here")]), No("lies beneath \"l\"")),
        ("a directory through a link", tar(&[link("l", ".."), dir("l/outside/d")]), No("lies beneath \"l\"")),
        ("a link through a link", tar(&[link("l", "../outside"), link("l/x", "y")]), No("lies beneath \"l\"")),
        ("a hard link through a link", tar(&[file("f"), link("l", "../outside"), hard("l/x", "f")]), No("lies beneath \"l\"")),
        ("a link in place of a directory", tar(&[dir("d"), link("d", "../outside"), file("d/x")]), No("\"d\" is in the archive twice")),
        ("a directory in place of a link", tar(&[link("d", "../outside"), dir("d/"), file("d/x")]), No("\"d\" is in the archive twice")),
        ("RUSTSEC-2026-0067: a mode through a link", tar(&[link("d", "../outside"), with(MODE, b"0000777\0", dir("d"))]), No("\"d\" is in the archive twice")),
        ("a file in place of a link", tar(&[link("l", "../outside/secret"), file("l")]), No("\"l\" is in the archive twice")),
        ("a link that leads out is data", tar(&[link("l", "../outside/secret")]), Yes("l>../outside/secret")),
        ("a link to itself", tar(&[link("l", "l")]), Yes("l>l")),
        ("links in a circle", tar(&[link("a", "b"), link("b", "a")]), Yes("a>b b>a")),
        ("no target", tar(&[link("l", "")]), No("has a target of 0 bytes")),
        ("a target of 4,095 bytes", tar(&[long_link(vec![b't'; 4095]), link("l", "x")]), Yes("…")),
        ("a target of 4,096 bytes", tar(&[long_link(vec![b't'; 4096]), link("l", "x")]), No("has a target of 4096 bytes")),
        ("a NUL in a target", tar(&[pax(record("linkpath", "a\0b")), link("l", "x")]), No("has a target of 3 bytes")),
        ("a link with content", tar(&[any(b'2', "l", "t", "content")]), No("has content, and is no file")),
        ("a hard link to what is before it", tar(&[file("f"), hard("h", "./f")]), Yes("f h")),
        ("a hard link beside", tar(&[hard("h", "../outside/secret")]), No("hard link to \"../outside/secret\"")),
        ("an absolute hard link", tar(&[hard("h", "/etc/passwd")]), No("hard link to \"/etc/passwd\"")),
        ("a hard link with .. in the middle", tar(&[dir("d"), hard("h", "d/../../outside/secret")]), No("no file before it")),
        ("a hard link to a link", tar(&[link("l", "../outside/secret"), hard("h", "l")]), No("no file before it")),
        ("a hard link beneath a link", tar(&[link("l", "../outside"), hard("h", "l/secret")]), No("no file before it")),
        ("a hard link to a directory", tar(&[dir("d"), hard("h", "d")]), No("no file before it")),
        ("a hard link to itself", tar(&[hard("h", "h")]), No("no file before it")),
        ("a hard link to what comes later", tar(&[hard("h", "f"), file("f")]), No("no file before it")),
        ("a hard link to nothing", tar(&[hard("h", "")]), No("no file before it")),
        ("a hard link with content", tar(&[file("f"), any(b'1', "h", "f", "other")]), No("has content, and is no file")),
        ("a hard link in place of its file", tar(&[file("f"), hard("f", "f")]), No("\"f\" is in the archive twice")),
    ]
}

#[rustfmt::skip]
fn kinds() -> Vec<Case> {
    vec![
        ("a character device", tar(&[any(b'3', "x", "", "")]), No("is a device, and only")),
        ("a block device", tar(&[any(b'4', "x", "", "")]), No("is a device, and only")),
        ("a pipe", tar(&[any(b'6', "x", "", "")]), No("is a pipe, and only")),
        ("a contiguous file", tar(&[any(b'7', "x", "", "")]), No("thing of unknown kind")),
        ("a file of the first tars", tar(&[any(0, "x", "", "content")]), Yes("x")),
        ("an old GNU sparse file", tar(&[old_sparse("x")]), No("is a sparse file, and only")),
        ("a PAX sparse file, 0.0", tar(&[pax(record("GNU.sparse.size", "1024")), file("x")]), No("is a sparse file, and only")),
        ("a PAX sparse file, 1.0", tar(&[pax([record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0"), record("GNU.sparse.name", "../x")].concat()), file("x")]), No("is a sparse file")),
        ("a GNU directory's content", tar(&[any(b'D', "x", "", "Yfile\0\0")]), No("thing of unknown kind")),
        ("a GNU volume's name", tar(&[any(b'V', "x", "", "")]), No("thing of unknown kind")),
        ("the rest of a file of another volume", tar(&[any(b'M', "x", "", "content")]), No("thing of unknown kind")),
        ("GNU's old long names", tar(&[any(b'N', "x", "", "Rename a to ../b\n")]), No("thing of unknown kind")),
        ("a Solaris ACL", tar(&[any(b'A', "x", "", "acl")]), No("thing of unknown kind")),
        ("a Solaris attribute", tar(&[any(b'X', "x", "", "9 path=b\n")]), No("thing of unknown kind")),
        ("a letter of no meaning", tar(&[any(b'z', "x", "", "")]), No("thing of unknown kind")),
        ("a kind of no letter", tar(&[any(0xff, "x", "", "")]), No("thing of unknown kind")),
    ]
}

#[rustfmt::skip]
fn sizes() -> Vec<Case> {
    vec![
        ("a negative size", tar(&[with(SIZE, &[0xff; 12], file("x"))]), No("malformed")),
        ("the largest size", tar(&[with(SIZE, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], file("x"))]), No("malformed")),
        ("a size of 2^64 and 7, of which the library reads eight bytes", tar(&[with(SIZE, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7], file("x"))]), Yes("x")),
        ("a size behind spaces", tar(&[with(SIZE, b"          7\0", file("x"))]), Yes("x")),
        ("a size of 2^63", tar(&[with(SIZE, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], file("x"))]), No("hold more than")),
        ("a size of minus ten", tar(&[with(SIZE, b"-0000000012\0", file("x"))]), No("malformed")),
        ("a size that is no number", tar(&[with(SIZE, b"size\0", file("x"))]), No("malformed")),
        ("a size of nines", tar(&[with(SIZE, b"99999999999\0", file("x"))]), No("malformed")),
        ("a size in base 256", tar(&[with(SIZE, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], file("x"))]), Yes("x")),
        ("more than is allowed", tar(&[with(SIZE, b"00004000001\0", file("x"))]), No("hold more than 1048576 bytes; \"x\"")),
        ("more than there is", tar(&[with(SIZE, b"00000100000\0", file("x"))]), No("cut off")),
        ("a directory with a size", tar(&[any(b'5', "d", "", "content")]), No("has content, and is no file")),
        ("padding that is not zero", tar(&[{ let mut piece = file("x"); piece[BLOCK + 100] = 7; piece }]), Yes("x")),
    ]
}

#[rustfmt::skip]
fn checksums() -> Vec<Case> {
    vec![
        ("a wrong checksum", tar(&[broken(3, file("x"))]), No("malformed")),
        ("a checksum that is no number", tar(&[{ let mut piece = file("x"); piece[CHECKSUM].fill(b'?'); piece }]), No("malformed")),
        ("a signed checksum, of letters", tar(&[with_signed_checksum(file("x"))]), Yes("x")),
        ("a signed checksum, of others too", tar(&[with_signed_checksum(file("ä"))]), No("malformed")),
    ]
}

#[rustfmt::skip]
fn attributes() -> Vec<Case> {
    let nested = tar(&[file("smuggled")]);
    vec![
        ("an absolute PAX name", tar(&[pax(record("path", "/hostile-was-here")), file("x")]), No("names \"/hostile-was-here\"")),
        ("a PAX name with ..", tar(&[pax(record("path", "../outside/x")), file("x")]), No("names \"../outside/x\"")),
        ("an empty PAX name", tar(&[pax(record("path", "")), file("x")]), No("cannot lie beneath")),
        ("two PAX names", tar(&[pax([record("path", "a"), record("path", "b")].concat()), file("x")]), No("two names, targets or sizes")),
        ("two PAX headers", tar(&[pax(record("path", "a")), pax(record("path", "b")), file("x")]), No("malformed")),
        ("a PAX target of a hard link", tar(&[file("f"), pax(record("linkpath", "../outside/secret")), hard("h", "f")]), No("hard link to \"../outside/secret\"")),
        ("a PAX target of a link is data", tar(&[pax(record("linkpath", "../outside")), link("l", "x")]), Yes("l>../outside")),
        ("a file through a PAX link", tar(&[pax(record("linkpath", "../outside")), link("l", "x"), file("l/x")]), No("lies beneath \"l\"")),
        ("CVE-2025-62518: no size, a PAX size, and a tar as content", tar(&[pax(record("size", nested.len().to_string())), with(SIZE, b"00000000000\0", any(b'0', "x", "", &nested))]), Yes("x")),
        ("RUSTSEC-2026-0068: a size, and none by PAX", tar(&[pax(record("size", "0")), any(b'0', "x", "", file("seen"))]), Yes("seen x")),
        ("RUSTSEC-2026-0068: a directory with a PAX size", tar(&[pax(record("size", "512")), dir("d"), file("swallowed")]), No("has content, and is no file")),
        ("RUSTSEC-2026-0068: a link with a PAX size", tar(&[pax(record("size", "512")), link("l", "t"), file("swallowed")]), No("has content, and is no file")),
        ("two PAX sizes", tar(&[pax([record("size", "7"), record("size", "8")].concat()), file("x")]), No("two names, targets or sizes")),
        ("a negative PAX size", tar(&[pax(record("size", "-1")), file("x")]), No("malformed")),
        ("a PAX size of 2^64", tar(&[pax(record("size", "18446744073709551616")), file("x")]), No("malformed")),
        ("a PAX size of 2^64-1", tar(&[pax(record("size", "18446744073709551615")), file("x")]), No("malformed")),
        ("a PAX size that is no number", tar(&[pax(record("size", "7x")), file("x")]), No("malformed")),
        ("a PAX record without a line's end", tar(&[pax("9 path=b"), file("x")]), Yes("b")),
        ("a PAX name of two lines, which the library takes for two records", tar(&[pax(record("path", "a\nb")), file("x")]), No("malformed")),
        ("a PAX record of length 0", tar(&[pax("0 path=b\n"), file("x")]), No("malformed")),
        ("a PAX record that is longer than all", tar(&[pax("999 path=b\n"), file("x")]), No("malformed")),
        ("a PAX record whose length is no length", tar(&[pax("99999999999999999999999 path=b\n"), file("x")]), No("malformed")),
        ("a PAX record of no length", tar(&[pax("path=b\n"), file("x")]), No("malformed")),
        ("a PAX record of no key", tar(&[pax("5 =b\n"), file("x")]), Yes("x")),
        ("300 KiB of PAX", tar(&[pax(record("comment", vec![b'c'; 300 << 10])), file("x")]), No("header of more than 262144 bytes")),
        ("200 KiB of PAX", tar(&[pax(record("comment", vec![b'c'; 200 << 10])), file("x")]), Yes("x")),
        ("PAX headers without an entry", tar(&[file("a"), pax(record("path", "b"))]), No("malformed")),
        ("a global PAX name", tar(&[any(b'g', "g", "", record("path", "../outside/x")), file("x")]), Yes("x")),
        ("a global PAX size", tar(&[any(b'g', "g", "", record("size", "512")), file("x"), file("y")]), Yes("x y")),
        ("300 KiB of global PAX", tar(&[any(b'g', "g", "", record("comment", vec![b'c'; 300 << 10])), file("x")]), No("header of more than 262144 bytes")),
    ]
}

#[rustfmt::skip]
fn long_names() -> Vec<Case> {
    vec![
        ("an absolute long name", tar(&[long_name("/hostile-was-here\0"), file("x")]), No("names \"/hostile-was-here\"")),
        ("a long name with ..", tar(&[long_name("a/../../outside/x\0"), file("x")]), No("cannot lie beneath")),
        ("a long name without NUL", tar(&[long_name("long"), file("x")]), Yes("long")),
        ("an empty long name", tar(&[long_name(""), file("x")]), No("cannot lie beneath")),
        ("two long names", tar(&[long_name("a\0"), long_name("b\0"), file("x")]), No("malformed")),
        ("two long targets", tar(&[long_link("a\0"), long_link("b\0"), link("l", "x")]), No("malformed")),
        ("a long name without an entry", tar(&[file("a"), long_name("b\0")]), No("malformed")),
        ("a long name of 1 MiB", tar(&[long_name(vec![b'a'; 1 << 20]), file("x")]), No("header of more than 262144 bytes")),
        ("a long name of 2^63 bytes", tar(&[with(SIZE, &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], long_name("a")), file("x")]), No("")),
        ("a long name and a PAX name", tar(&[long_name("a\0"), pax(record("path", "b")), file("x")]), No("two names, targets or sizes")),
        ("a PAX name and a long name", tar(&[pax(record("path", "b")), long_name("a\0"), file("x")]), No("two names, targets or sizes")),
        ("a long target of a hard link", tar(&[file("f"), long_link("../outside/secret\0"), hard("h", "f")]), No("no file before it")),
    ]
}

#[rustfmt::skip]
fn bombs() -> Vec<Case> {
    vec![
        ("as many entries as are allowed", tar(&(0..1000).map(|n| dir(n.to_string())).collect::<Vec<_>>()), Yes("…")),
        ("an entry too many", tar(&(0..1001).map(|n| dir(n.to_string())).collect::<Vec<_>>()), No("more than 1000 entries")),
        ("parents too many", tar(&(0..4).map(|n| file(format!("{n}/{}", deep(45)))).chain((4..30).map(|n| file(format!("{n}/{}", deep(45))))).collect::<Vec<_>>()), No("more than 1000 entries")),
        ("as many bytes as are allowed", tar(&[any(b'0', "a", "", vec![0; 1 << 20])]), Yes("a")),
        ("a byte too many", tar(&[any(b'0', "a", "", vec![0; 1 << 20]), any(b'0', "b", "", "1")]), No("hold more than 1048576 bytes; \"b\"")),
        ("hard links too many", tar(&[any(b'0', "a", "", vec![0; 1 << 19]), hard("b", "a"), hard("c", "a")]), No("hold more than 1048576 bytes; \"c\"")),
    ]
}

#[rustfmt::skip]
fn duplicates() -> Vec<Case> {
    vec![
        ("a file twice", tar(&[file("a"), file("./a")]), No("\"a\" is in the archive twice")),
        ("a file, then a directory", tar(&[file("a"), dir("a")]), No("\"a\" is in the archive twice")),
        ("a directory, then a file", tar(&[dir("a"), file("a")]), No("\"a\" is in the archive twice")),
        ("a file beneath a file", tar(&[file("a"), file("a/b")]), No("lies beneath \"a\", which is not a directory")),
        ("a directory twice", tar(&[dir("a"), file("a/b"), dir("a/")]), Yes("a/ a/b")),
        ("an implied directory, then a file", tar(&[file("a/b"), file("a")]), No("\"a\" is in the archive twice")),
        ("a link twice", tar(&[link("a", "b"), link("a", "c")]), No("\"a\" is in the archive twice")),
        ("names that differ in case", tar(&[file("A"), file("a")]), Yes("A a")),
    ]
}

#[rustfmt::skip]
fn modes_and_times() -> Vec<Case> {
    vec![
        ("set-user-id, set-group-id, sticky", tar(&[with(MODE, b"0007755\0", file("a")), with(MODE, b"0007755\0", dir("d"))]), Yes("a:755 d/")),
        ("a mode of nothing", tar(&[with(MODE, b"0000000\0", file("a"))]), Yes("a:0")),
        ("a directory of mode nothing", tar(&[with(MODE, b"0000000\0", dir("d")), file("d/a")]), Yes("d/:0 d/a")),
        ("a mode with the bits of a kind", tar(&[with(MODE, b"0120644\0", file("a"))]), Yes("a")),
        ("a mode that is no number", tar(&[with(MODE, b"rwxr-x\0\0", file("a"))]), No("malformed")),
        ("a time before 1970", tar(&[with(MTIME, &[0xff; 12], file("a"))]), Yes("a")),
        ("a time beyond 2^33", tar(&[with(MTIME, &[0x80, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0], file("a"))]), Yes("a")),
        ("a time of 2^64-1", tar(&[with(MTIME, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], dir("d"))]), Yes("d/")),
        ("a time that is no number", tar(&[with(MTIME, b"yesterday\0", file("a"))]), No("malformed")),
    ]
}

#[rustfmt::skip]
fn the_end() -> Vec<Case> {
    vec![
        ("nothing at all", Vec::new(), No("cut off")),
        ("nothing but an end", end(), Yes("")),
        ("no end", file("a"), No("cut off")),
        ("half an end", [file("a"), vec![0; BLOCK]].concat(), No("cut off")),
        ("an end that is none", tar(&[file("a"), vec![0; BLOCK], file("b")]), No("is alone")),
        ("an end in the midst", [tar(&[file("a")]), tar(&[file("../outside/x")])].concat(), Yes("a")),
        ("cut in a header", file("a")[..300].to_vec(), No("cut off")),
        ("cut in a content", file("a")[..515].to_vec(), No("cut off")),
        ("cut in a padding", file("a")[..600].to_vec(), No("cut off")),
        ("no tar", b"PK\x03\x04".repeat(300), No("malformed")),
    ]
}
