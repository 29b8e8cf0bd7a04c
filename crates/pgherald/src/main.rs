//! The program `pgherald`; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgherald::main()
}
