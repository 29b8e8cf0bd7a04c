//! `pgherald setup` as a command.

use std::process::Stdio;

use tokio::process::Command;

use crate::{
    command_line::{file, pgherald, said},
    stage::postgres,
};

#[tokio::test(flavor = "multi_thread")]
async fn setup_needs_postgres_only_and_says_what_it_did() {
    let postgres = postgres().await;
    // The rest of the configuration may be unfinished.
    let text = format!("[postgres]\nurl = \"{}\"\n[pipelines.p.source.fax]\n", postgres.url());
    let (_scratch, path) = file(&text);
    let setup = ["--config", path.to_str().unwrap(), "setup"];
    let first = said(&mut pgherald(&[&setup[..], &["--send-role", "my app"]].concat()).await).await;
    assert_eq!(first.code, Some(0), "{}", first.all());
    assert!(first.out.contains("version 2 is installed"), "{}", first.all());
    assert!(first.out.contains("\"my app\" was created with LOGIN"), "{}", first.all());
    let again = said(&mut pgherald(&setup).await).await;
    assert_eq!((again.code, again.err.as_str()), (Some(0), ""), "{}", again.all());
    assert!(again.out.contains("up to date"), "{}", again.all());

    // Another role's URL stands above the file; the environment alone will do.
    let other = postgres.url_for("nobody_known");
    let (_other_scratch, url_file) = file(&other);
    let refused = [&setup[..], &["--url-file", url_file.to_str().unwrap()]].concat();
    let refused = said(&mut pgherald(&refused).await).await;
    assert_eq!(refused.code, Some(1), "{}", refused.all());
    assert!(refused.err.contains("nobody_known"), "{}", refused.all());
    let mut alone = pgherald(&["setup"]).await;
    alone.env("PGHERALD__POSTGRES__URL", postgres.url());
    assert_eq!(said(&mut alone).await.code, Some(0));
    let mut alone = pgherald(&["setup", "--url-file", url_file.to_str().unwrap()]).await;
    assert_eq!(said(&mut alone).await.code, Some(1));
    assert_eq!(said(&mut pgherald(&["setup"]).await).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_runs_what_setup_prints() {
    let postgres = postgres().await;
    let print = ["setup", "--print", "--bridge-role", "bridge", "--shadow-notify=only"];
    let printed = said(&mut pgherald(&print).await).await;
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""), "{}", printed.all());
    let (_scratch, script) = file(&printed.out);
    for _ in 0..2 {
        let mut psql = Command::new(postgres.bin().join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &postgres.url(), "-f"]).arg(&script);
        psql.stdout(Stdio::piped()).stderr(Stdio::piped());
        let psql = said(&mut psql).await;
        assert_eq!(psql.code, Some(0), "{}", psql.all());
    }
    let (_scratch, path) = file(&format!("[postgres]\nurl = \"{}\"\n", postgres.url()));
    let again = said(&mut pgherald(&["--config", path.to_str().unwrap(), "setup"]).await).await;
    assert!(again.out.contains("up to date"), "{}", again.all());
}
