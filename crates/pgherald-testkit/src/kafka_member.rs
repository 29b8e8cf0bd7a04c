//! Who a broker is, and where it and its controllers listen.

use crate::free_port;

/// One broker of a cluster: its number, its ports, and the controllers' ports in their order.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: usize,
    pub(crate) ports: Ports,
    pub(crate) controllers: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) direct: u16,
    pub(crate) proxied: u16,
    pub(crate) controller: u16,
    pub(crate) advertised: u16,
}

impl Ports {
    pub(crate) fn free(advertise: Option<u16>) -> Self {
        let proxied = free_port();
        let advertised = advertise.unwrap_or(proxied);
        Self { direct: free_port(), proxied, controller: free_port(), advertised }
    }
}

impl Member {
    pub(crate) fn alone(advertise: Option<u16>) -> Self {
        let ports = Ports::free(advertise);
        Self { id: 1, ports, controllers: vec![ports.controller] }
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.controllers.len() == 1
    }

    /// Where the controllers are. One that is alone is told by the properties: no port is in its
    /// storage.
    pub(crate) fn controllers(&self) -> String {
        let port = self.ports.controller;
        if self.is_alone() {
            return format!("controller.quorum.voters={}@127.0.0.1:{port}", self.id);
        }
        let all: Vec<_> = self.controllers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("controller.quorum.bootstrap.servers={}", all.join(","))
    }

    /// How `format` is told who the first controllers are. Any 16 bytes name a directory.
    pub(crate) fn quorum(&self) -> Vec<String> {
        const DIRECTORIES: [&str; 3] =
            ["cGdoZXJhbGQtdGVzdC1kMQ", "cGdoZXJhbGQtdGVzdC1kMg", "cGdoZXJhbGQtdGVzdC1kMw"];
        if self.is_alone() {
            return Vec::new();
        }
        let all = self.controllers.iter().zip(DIRECTORIES).zip(1..);
        let all: Vec<_> = all.map(|((port, id), n)| format!("{n}@127.0.0.1:{port}:{id}")).collect();
        vec!["--initial-controllers".into(), all.join(",")]
    }
}
