use super::*;
use std::fs;

const ROOM: u64 = 512;

fn open(dir: &tempfile::TempDir) -> Result<(LedgerFile, Option<String>), LedgerFileError> {
    LedgerFile::open_with_room(OsDisk, dir.path().to_path_buf(), ROOM)
}

/// Bytes of the copy that count.
fn content(path: &Path) -> usize {
    decode(&fs::read(path).unwrap()).unwrap().bytes.len()
}

#[test]
fn the_newest_save_is_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, none) = open(&dir).unwrap();
    assert!(none.is_none());
    for text in ["one", "two", "three"] {
        file.save(&text).unwrap();
        assert_eq!(open(&dir).unwrap().1.unwrap(), text);
    }
}

#[test]
fn a_torn_newest_copy_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(&dir).unwrap();
    for text in ["none", "one", "two"] {
        file.save(&text).unwrap();
    }
    let newest = path_of(dir.path(), file.current());
    let bytes = fs::read(&newest).unwrap();
    for cut in 0..content(&newest) {
        fs::write(&newest, &bytes[..cut]).unwrap();
        assert_eq!(open(&dir).unwrap().1.unwrap(), "one", "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(&dir).unwrap();
    file.save(&"content").unwrap();
    fs::remove_file(path_of(dir.path(), file.older())).unwrap();
    let path = path_of(dir.path(), file.current());
    let bytes = fs::read(&path).unwrap();
    for position in 0..content(&path) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(matches!(open(&dir), Err(LedgerFileError::Damaged(_))), "bit at {position}");
    }
}

#[test]
fn both_copies_have_room_after_the_first_save_and_again_after_they_grew() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(&dir).unwrap();
    let lengths = || [0, 1].map(|copy| fs::metadata(path_of(dir.path(), copy)).unwrap().len());
    file.save(&"small").unwrap();
    assert_eq!(lengths(), [ROOM, ROOM]);
    let large = "x".repeat(600);
    file.save(&large).unwrap();
    assert_eq!(lengths(), [2 * ROOM, 2 * ROOM]);
    assert_eq!(open(&dir).unwrap().1.unwrap(), large);
}

#[test]
fn what_another_version_wrote_is_not_taken_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(&dir).unwrap();
    file.save(&"text").unwrap();
    file.save(&5).unwrap();
    assert!(matches!(open(&dir), Err(LedgerFileError::Foreign { .. })));
}
