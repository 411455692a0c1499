//! Samples as Python writes them, published by the command line.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use system_tests::{
    cli::{Answer, Exit, answer},
    fleet::Fleet,
    models::Publication,
    programs::{python, repository},
    views,
};

/// Every form of one sample, made by numpy and by Python's own writer of tables.
fn samples(fleet: &Fleet) -> Vec<PathBuf> {
    let folder = fleet.server.scratch().join("samples");
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(python());
    command.arg(repository().join("tests/python/make_samples.py"));
    command.arg(repository().join("fleet-server/demo/digits-test.bin")).arg(&folder);
    let _ = answer(command).ok();
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn publish(fleet: &Fleet, options: &[(&str, &Path)]) -> Answer {
    let Publication { onnx, golden, .. } = Publication::digits(1);
    let lineage = repository().join("fleet-server/demo/digits-v1-lineage.toml");
    let mut arguments: Vec<OsString> = ["model", "publish", "--name", "digits"].map(OsString::from).into();
    let files = [("--golden", golden.as_path()), ("--lineage", lineage.as_path())];
    for (option, file) in files.iter().chain(options) {
        arguments.extend([OsString::from(option), file.as_os_str().to_owned()]);
    }
    arguments.push(onnx.into());
    fleet.cli().run(arguments)
}

#[test]
fn every_form_that_python_writes_a_sample_in_gives_the_same_reference() {
    let fleet = Fleet::start(0);
    // Without names of its own, which a table would have.
    let schema = fleet.server.scratch().join("features.toml");
    fs::write(&schema, "[[image]]\n[[numeric]]\nindex = 20\n[[confidence]]\n[[entropy]]\n[[class]]\n")
        .unwrap();
    let samples = samples(&fleet);
    assert_eq!(samples.len(), 6);
    let mut references = Vec::new();
    for (sample, version) in samples.iter().zip(1..) {
        let published = publish(&fleet, &[("--reference", sample), ("--features", &schema)]).ok();
        let _ = published.says(&["9 features watched", "1194 cases", "1 class"]);
        let view = fleet.cli().json(&["model", "show", &format!("digits@{version}")]);
        references.push(views::text(&view["gate"]["drift"], "reference"));
    }
    references.dedup();
    assert_eq!(references.len(), 1, "{samples:?}: {references:?}");
    let _ = fleet.cli().run(["model", "show", "digits@1"]).ok().says(&[
        "image.sharpness: sharpness of input image",
        "probabilities.class: class of output probabilities; 10 categories, no others in 1194 rows",
    ]);
}

#[test]
fn a_sample_that_cannot_be_read_is_refused_with_what_to_do() {
    let fleet = Fleet::start(0);
    let _ = samples(&fleet);
    let table = fs::read_to_string(fleet.server.scratch().join("samples/savetxt.csv")).unwrap();
    let indexed: Vec<String> = std::iter::once(String::new())
        .chain((0..).map(|row: u32| row.to_string()))
        .zip(table.lines())
        .map(|(index, line)| format!("{index},{line}"))
        .collect();
    let broken = fleet.server.scratch().join("broken.csv");
    fs::write(&broken, indexed.join("\n")).unwrap();
    let refused = publish(&fleet, &[("--reference", &broken)]).exits(Exit::Failed).is_clear();
    let _ = refused.says(&["pandas", "index=False", "nothing is watched"]);
    let _ = publish(&fleet, &[("--features", &broken)]).exits(Exit::Usage);
}
