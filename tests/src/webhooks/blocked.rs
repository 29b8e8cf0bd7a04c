//! Receivers that take nothing before somebody has mended something.

use pgherald_testkit::Answer;

use super::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn it_names_the_remedy_and_heals_without_a_restart() {
    let scene = Scene::start(|_| Answer::Status(204), "").await;
    let mut announced = 0;
    for (answer, remedy) in [
        (Answer::Status(404), "correct url"),
        (Answer::Status(401), "correct bearer_token"),
        (Answer::With(302, "location", "/elsewhere".into()), "redirects are not followed"),
        (Answer::With(307, "location", "/elsewhere".into()), "redirects are not followed"),
    ] {
        let status = answer.status().expect("it has one");
        scene.hook.answer(move |_| answer.clone());
        scene.announce(announced..announced + 20).await;
        announced += 20;
        scene.tells(&["p/hook: blocked", &format!("answered {status}"), remedy]).await;
        assert_eq!(scene.bridge.livez().await.unwrap().status, 200);
        scene.hook.answer(|_| Answer::Status(204));
        scene.history(announced).await;
    }
    scene.history(announced).await.assert_kept(announced, &Default::default());
    let received = scene.hook.received();
    assert!(received.iter().all(|it| it.path == "/events"), "a redirect was followed");
    assert_eq!(scene.metric("pgherald_messages_rejected_total").await, 0.0);
    // One line a state change, however often it was tried in between. Requests that are under way
    // when the receiver is mended may be taken and refused side by side: then it is blocked twice.
    let blocked = scene.bridge.log_lines("flow is blocked").len();
    assert!((4..=8).contains(&blocked), "{blocked} times: {}", scene.bridge.log());
    scene.ends_well().await;
}
