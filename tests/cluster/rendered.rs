//! What is applied to a cluster, looked at where there is none.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::kubernetes::{kustomize, validator};
use crate::object::{Object, only};
use crate::overlay::{INSTANCE, Overlay};
use crate::settings::{Image, Settings};
use crate::tools;

fn settings(fetcher: Option<&str>, storage_class: Option<&str>) -> Settings {
    Settings {
        server: Image::new("registry.example:5000/code-server:1"),
        fetcher: fetcher.map(Image::new),
        application: Image::new("busybox:1.36"),
        storage_class: storage_class.map(str::to_owned),
    }
}

fn rendered(overlay: &Overlay) -> Option<Vec<Object>> {
    let objects = kustomize(Path::new(overlay.path()))?;
    validate(&objects);
    for object in &objects {
        assert_eq!(object.text("/metadata/namespace"), "ours");
        let label = &object.at("/metadata/labels")[INSTANCE];
        assert_eq!(label, "ours", "{:#}", object.0);
    }
    Some(objects)
}

fn validate(objects: &[Object]) {
    let Some(mut validator) = validator() else {
        return;
    };
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let documents: Vec<_> = objects.iter().map(|object| object.0.to_string()).collect();
    fs::write(file.path(), documents.join("\n---\n")).unwrap();
    tools::output(validator.args(["--quiet", "--strict"]).arg(file.path()));
}

fn check_server(storage_class: Option<&str>, expected: Option<&Value>) {
    let overlay = Overlay::server(&settings(None, storage_class), "ours");
    let Some(objects) = rendered(&overlay) else {
        return;
    };
    let claim = only(&objects, "PersistentVolumeClaim", "code-server");
    assert_eq!(claim.find("/spec/storageClassName"), expected);
    let server = only(&objects, "Deployment", "code-server");
    let container = "/spec/template/spec/containers/0";
    assert_eq!(
        server.text(&format!("{container}/image")),
        "registry.example:5000/code-server:1"
    );
}

#[test]
fn the_server_has_the_image_and_the_class_of_the_settings() {
    check_server(None, None);
    check_server(Some("fast"), Some(&json!("fast")));
}

fn check_application(fetcher: Option<&str>, image: &str, command: Option<&Value>) {
    let components = ["pdb", "hpa", "anti-affinity"];
    let overlay = Overlay::application(&settings(fetcher, None), "ours", &components);
    let Some(objects) = rendered(&overlay) else {
        return;
    };
    let application = only(&objects, "Deployment", "application");
    let fetcher = "/spec/template/spec/initContainers/0";
    assert_eq!(application.text(&format!("{fetcher}/name")), "fetch-code");
    assert_eq!(application.text(&format!("{fetcher}/image")), image);
    let found = application.find(&format!("{fetcher}/command"));
    assert_eq!(found, command);
    only(&objects, "HorizontalPodAutoscaler", "application");
    only(&objects, "PodDisruptionBudget", "application");
}

#[test]
fn the_application_has_the_fetcher_of_its_own_image_or_of_the_servers() {
    let command = json!(["/fetch-init"]);
    check_application(None, "registry.example:5000/code-server:1", Some(&command));
    check_application(Some("fetch-init:2"), "fetch-init:2", None);
}
