//! Setup on databases that were restored, copied, damaged or are of another version.

mod copies;
mod house;
mod python;
mod release;
mod repairs;
mod restores;
mod roles;
