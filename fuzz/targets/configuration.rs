//! Configurations, out of a file and the environment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgherald::fuzzing::configuration;

fuzz_target!(|text: &str| {
    // Nothing here reads the machine's files.
    if text.to_ascii_lowercase().contains("_file") {
        return;
    }
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    match configuration(file, variables) {
        Ok(effective) => {
            let again = configuration(&effective, std::iter::empty());
            assert_eq!(again.as_ref(), Ok(&effective), "what takes effect is a configuration");
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
});
