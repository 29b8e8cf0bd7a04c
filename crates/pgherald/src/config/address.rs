//! What `pgherald health` needs: `admin.listen`, and nothing else. A running instance must not be
//! called unhealthy because of what the file says for the next one.

use std::{borrow::Cow, collections::BTreeMap, fs, net::SocketAddr, path::Path};

use pgherald_core::{Problem, Problems};
use serde_json::Value;
use toml::de::DeTable;

use super::{Environment, Refused, defaults, file, key::Key, resolve, tree::Tree};

/// Where the running instance serves its admin pages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) listen: SocketAddr,
    /// Why the default was taken, where that is worth a word.
    pub(crate) doubt: Option<String>,
}

/// Reads `admin.listen`, from whatever can be read.
///
/// # Errors
/// The value of `admin.listen` is no address.
pub(crate) fn load_address(
    option: Option<&Path>,
    environment: &Environment,
) -> Result<Address, Refused> {
    let key = Key::dotted("admin.listen");
    let path = file::locate(option, environment);
    let mut doubt = None;
    let written = match from_environment(environment, &key) {
        Some(text) => Some(Value::String(text)),
        None => match fs::read(&path) {
            Ok(bytes) => from_file(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                let path = path.display();
                doubt = Some(format!("{path} cannot be read ({error}), so the default was asked"));
                None
            }
        },
    };
    let mut problems = Problems::default();
    let listen = match written {
        None => resolve::listen(defaults::ADMIN_LISTEN, &mut problems),
        Some(Value::String(text)) => resolve::listen(&text, &mut problems),
        Some(_) => {
            problems.add(key.to_string(), "a text is needed here, such as \"127.0.0.1:9947\"");
            None
        }
    };
    let problems: Vec<Problem> = problems.iter().cloned().collect();
    listen.map(|listen| Address { listen, doubt }).ok_or(Refused { path, problems })
}

/// The variable, however its name is written.
fn from_environment(environment: &Environment, key: &Key) -> Option<String> {
    let (variables, _) = environment.texts();
    let named = |name: &String| name.eq_ignore_ascii_case(&key.variable());
    let variables: BTreeMap<String, String> =
        variables.into_iter().filter(|(name, _)| named(name)).collect();
    let tree = Tree::merge("", variables).ok()?;
    tree.get(key)?.as_str().map(str::to_owned)
}

/// The value in a file of which other parts may not even be TOML: what the parser makes of the whole,
/// else of what begins with `[admin]`.
fn from_file(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    let table = text.match_indices("[admin]").find(|(at, _)| text[..*at].ends_with('\n'));
    from_toml(text).or_else(|| from_toml(&text[table?.0..]))
}

fn from_toml(text: &str) -> Option<Value> {
    let (document, _) = DeTable::parse_recoverable(text);
    let admin = document.get_ref().get(&spanned("admin"))?.get_ref().as_table()?;
    let listen = admin.get(&spanned("listen"))?.get_ref();
    Some(listen.as_str().map_or(Value::Null, Value::from))
}

/// A name as the parser's tables are asked for it: where it stood does not count.
fn spanned(name: &str) -> toml::Spanned<Cow<'_, str>> {
    toml::Spanned::new(0..0, Cow::Borrowed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Option<String> {
        from_file(text).map(|value| value.to_string())
    }

    #[test]
    fn the_rest_of_the_file_may_be_anything() {
        let good = Some("\"127.0.0.1:1\"".to_owned());
        let admin = "[admin]\nlisten = \"127.0.0.1:1\"\n";
        assert_eq!(listen(admin), good);
        assert_eq!(listen(&format!("\u{feff}{admin}")), good);
        assert_eq!(listen("admin.listen = \"127.0.0.1:1\""), good);
        for before in ["[postgres]\nurl = \"postgres://a\n", "a = \n", "[[[\n", "x = 1 2\n"] {
            assert_eq!(listen(&format!("{before}{admin}")), good, "{before:?}");
            assert_eq!(listen(&format!("{admin}{before}")), good, "{before:?}");
        }
        assert_eq!(listen(&format!("{admin}port = 1\nunknown = true")), good);
        assert_eq!(listen("[admin]\nlisten = 9947"), Some("null".to_owned()));
        assert_eq!(listen("[shutdown]"), None);
    }

    #[test]
    fn the_environment_alone_will_do_and_wins() {
        let variable = |value: &str| {
            Environment::of([("PGHERALD__Admin__Listen".into(), value.to_owned().into())])
        };
        let nowhere = Path::new("/does/not/exist.toml");
        let found = load_address(Some(nowhere), &variable("127.0.0.1:3")).unwrap();
        assert_eq!((found.listen.port(), found.doubt), (3, None));
        let refused = load_address(Some(nowhere), &variable("here")).unwrap_err();
        assert_eq!(refused.problems[0].key, "admin.listen");
        let fallback = load_address(Some(nowhere), &Environment::default()).unwrap();
        assert_eq!(fallback.listen.to_string(), defaults::ADMIN_LISTEN);
        assert!(fallback.doubt.unwrap().contains("/does/not/exist.toml cannot be read"));
    }
}
