//! The library chart in a chart of somebody else, which depends on it by its path.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::isolated;
use crate::kubernetes::{manifests, template};
use crate::object::{Object, only};
use crate::overlay::{REVISION, overlay};
use crate::schema;
use crate::tools;

/// The chart of a user with its dependency beside it; nothing where there is no helm.
fn chart() -> Option<TempDir> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/user-chart");
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("templates")).unwrap();
    for file in ["values.yaml", "templates/deployment.yaml"] {
        fs::copy(source.join(file), directory.path().join(file)).unwrap();
    }
    let library = format!("file://{}", manifests().join("helm/fetch-init").display());
    let description = fs::read_to_string(source.join("Chart.yaml")).unwrap();
    let relative = "file://../../../manifests/helm/fetch-init";
    assert!(description.contains(relative), "{description}");
    let description = description.replace(relative, &library);
    fs::write(directory.path().join("Chart.yaml"), description).unwrap();

    let home = tempfile::tempdir().unwrap();
    let mut helm = isolated(home.path())?;
    let update = helm.args(["dependency", "update", "--skip-refresh"]);
    tools::output(update.arg(directory.path()));
    Some(directory)
}

fn rendered(settings: &[&str]) -> Option<Vec<Object>> {
    let chart = chart()?;
    let arguments: Vec<_> = settings
        .iter()
        .flat_map(|setting| ["--set-json", *setting])
        .collect();
    template(chart.path(), &arguments)
}

#[test]
fn it_adds_what_the_component_adds() {
    let revision = format!("code.revision={REVISION:?}");
    let (Some(ours), Some(theirs)) = (
        rendered(&["code.follow=true", &revision]),
        overlay(&["fetch-sidecar"]),
    ) else {
        return;
    };
    schema::validate(&ours);
    let ours = only(&ours, "Deployment", "web");
    let theirs = only(&theirs, "Deployment", "myapp-web");
    for pointer in [
        "/metadata/labels",
        "/spec/template/metadata/labels",
        "/spec/template/metadata/annotations",
        "/spec/template/spec/volumes",
    ] {
        assert_eq!(ours.at(pointer), theirs.at(pointer), "{pointer}");
    }
    for (pointer, image) in [
        ("/spec/template/spec/initContainers/0", "fetch-init"),
        ("/spec/template/spec/containers/1", "fetch-init"),
    ] {
        let mut container = ours.at(pointer).clone();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(container["image"], format!("{image}:{version}"));
        container["image"] = json!(image);
        assert_eq!(&container, theirs.at(pointer), "{pointer}");
    }
}

#[test]
fn without_a_revision_there_is_no_annotation_that_would_undo_a_patch() {
    let Some(objects) = rendered(&[]) else { return };
    let deployment = only(&objects, "Deployment", "web");
    let annotations = deployment.at("/spec/template/metadata/annotations");
    assert_eq!(annotations, &json!(null));
    let containers = deployment.at("/spec/template/spec/containers");
    assert_eq!(containers.as_array().unwrap().len(), 1);
}

#[test]
fn a_container_takes_the_resources_and_the_image_that_it_is_given() {
    let settings = [
        r#"code.image={"repository":"registry.example/fetch-init","digest":"sha256:00","pullPolicy":"Never"}"#,
        r#"code.resources={"limits":{"memory":"128Mi"}}"#,
        r#"code.env=[{"name":"FETCH_INIT_UMASK","value":"027"}]"#,
        r#"code.sizeLimit="4Gi""#,
    ];
    let Some(objects) = rendered(&settings) else {
        return;
    };
    schema::validate(&objects);
    let deployment = only(&objects, "Deployment", "web");
    let fetch = "/spec/template/spec/initContainers/0";
    let check = |rest: &str, expected: serde_json::Value| {
        assert_eq!(deployment.at(&format!("{fetch}{rest}")), &expected);
    };
    check("/image", json!("registry.example/fetch-init@sha256:00"));
    check("/imagePullPolicy", json!("Never"));
    check("/resources", json!({"limits": {"memory": "128Mi"}}));
    check("/env/2/value", json!("027"));
    let volume = deployment.at("/spec/template/spec/volumes/0/emptyDir/sizeLimit");
    assert_eq!(volume, &json!("4Gi"));
}

#[test]
fn a_chart_without_a_url_or_with_a_wrong_revision_is_told_so() {
    for (setting, words) in [
        (r#"code.url="""#, "where the code-server is"),
        (r#"code.revision="v2""#, r#"revision \"v2\" is none"#),
    ] {
        let Some(chart) = chart() else { return };
        let home = tempfile::tempdir().unwrap();
        let Some(mut helm) = isolated(home.path()) else {
            return;
        };
        helm.args(["template", "web"]).arg(chart.path());
        let output = tools::run(helm.args(["--set-json", setting]));
        let said = String::from_utf8_lossy(&output.stderr).replace('\\', "");
        assert!(!output.status.success(), "{setting} is taken");
        assert!(said.contains(&words.replace('\\', "")), "{said}");
    }
}
