//! Configurations that are refused: by the schema, or in a sentence where a schema would speak in patterns.

use serde_json::json;

use super::{pool, refused};

#[test]
fn what_no_object_can_be_made_of_is_refused_in_a_sentence() {
    let cases = [
        (
            json!({"pool_id": "Prod_1"}),
            r#"the pool_id "Prod_1" is no DNS label"#,
        ),
        (json!({"pool_id": "-a"}), "is no DNS label"),
        (
            json!({"pool_id": "a".repeat(41)}),
            "has 41 characters: 40 at most",
        ),
        (
            json!({"name": "My pool"}),
            r#"the name "My pool" of pool a is no label"#,
        ),
        (
            json!({"min_replicas": 11}),
            "min_replicas 11 above its max_replicas 10",
        ),
        (
            json!({"env": {"POOL_ID": "b"}}),
            "pool a sets POOL_ID in its env",
        ),
    ];
    for (extra, words) in cases {
        refused(&pool(&extra), words);
    }
    let twice = pool(&json!({}))["pools"][0].clone();
    refused(
        &json!({"pools": [twice, twice]}),
        r#"two pools have the pool_id "a""#,
    );
}

#[test]
fn what_the_schema_does_not_know_is_refused() {
    let cases = [
        (json!({"max_replica": 1}), "max_replica"),
        (json!({"max_replicas": "10"}), "max_replicas"),
        (json!({"max_replicas": -1}), "max_replicas"),
        (json!({"env": {"A": 1}}), "env"),
        (json!({"resources": {"limit": {}}}), "limit"),
        (json!({"revision": "sha256:0f"}), "revision"),
        (json!({"image": ""}), "image"),
    ];
    for (extra, words) in cases {
        refused(&pool(&extra), words);
    }
    refused(
        &json!({"pool": {"pool_id": "a", "name": "A", "max_replicas": 1}}),
        "image",
    );
    refused(&json!({"poools": []}), "poools");
    refused(&json!({"code": {"urls": "http://a"}}), "urls");
}
