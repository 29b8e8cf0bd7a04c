//! What a build without a kind of sink says to whoever configures it.

use super::{tree::Tree, understand};

#[test]
fn a_kind_that_is_not_built_in_is_refused_by_name() {
    let text = "[postgres]\nurl = \"postgres://app@localhost/app\"\n\
                [pipelines.orders.source.notify]\nchannels = [\"orders\"]\n\
                [pipelines.orders.sinks.bus.nats]\nservers = \"nats://localhost:4222\"\n";
    let tree = Tree::merge(text, Default::default()).unwrap();
    let refused = understand("without".into(), tree, Vec::new(), None).unwrap_err();
    assert_eq!(refused.problems.len(), 1, "{:#?}", refused.problems);
    assert!(refused.problems[0].text.contains("built without the `nats` feature"));
}
