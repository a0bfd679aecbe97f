//! Three servers on this machine, which can be killed and started again.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use subrosa::Address;

use crate::{Result, wire};

pub(crate) struct Cluster {
    folder: PathBuf,
    ports: Vec<u16>,
    running: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `count` servers that let these devices in, and desks.
    pub(crate) fn start(count: usize, devices: &[Address]) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("subrosa-nats-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("logins.conf"), logins(devices)?)?;
        let (ports, routes) = (free_ports(count)?, free_ports(count)?);
        let all = routes.iter().map(|port| format!("nats://127.0.0.1:{port}"));
        let all = all.collect::<Vec<_>>().join(", ");
        for (index, (port, route)) in ports.iter().zip(&routes).enumerate() {
            // A user's row and an envelope are one message each: see docs/server.md.
            let mut config = format!(
                "server_name: server{index}\nlisten: 127.0.0.1:{port}\nmax_payload: 4MB\n\
                 jetstream {{ store_dir: '{}' }}\ninclude 'logins.conf'\n",
                store(&folder, index).display(),
            );
            if count > 1 {
                writeln!(
                    config,
                    "cluster {{ name: subrosa, listen: 127.0.0.1:{route}, routes: [{all}] }}"
                )?;
            }
            fs::write(folder.join(format!("server{index}.conf")), config)?;
        }
        let mut cluster = Self { folder, ports, running: (0..count).map(|_| None).collect() };
        for index in 0..count {
            cluster.begin(index)?;
        }
        Ok(cluster)
    }

    /// What connects to any of them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect()
    }

    pub(crate) fn begin(&mut self, index: usize) -> Result {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("server{index}.log")))?;
        let server = Command::new("nats-server")
            .arg("--config")
            .arg(self.folder.join(format!("server{index}.conf")))
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("nats-server: {error}"))?;
        if let Some(running) = self.running.get_mut(index) {
            *running = Some(server);
        }
        Ok(())
    }

    /// It ends where it is, as when the power goes.
    pub(crate) fn kill(&mut self, index: usize) -> Result {
        if let Some(mut server) = self.running.get_mut(index).and_then(Option::take) {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// The bytes that each has on its disk.
    pub(crate) fn stored(&self) -> Vec<u64> {
        (0..self.ports.len()).map(|index| bytes_in(&store(&self.folder, index))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.running.len() {
            if let Err(error) = self.kill(index) {
                eprintln!("server{index}: {error}");
            }
        }
        if std::env::var_os("SUBROSA_NATS_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// Who may do what, by subjects: a device, what docs/server.md says; a desk, everything.
fn logins(devices: &[Address]) -> Result<String> {
    let mut users = "  { user: desk, password: desk }\n".to_owned();
    for device in devices {
        let (name, Address { user, device, .. }) = (wire::name(device), device);
        writeln!(
            users,
            "  {{ user: {name}, password: {name}, permissions: {{\n    \
             publish: [ 'desk.*.*.{user}.{device}', 'mail.*.*.{user}.{device}',\n      \
             '$JS.API.CONSUMER.INFO.MAIL.{name}', '$JS.API.CONSUMER.MSG.NEXT.MAIL.{name}',\n      \
             '$JS.ACK.MAIL.{name}.>', '$O.blobs.>', '$JS.API.STREAM.INFO.OBJ_blobs',\n      \
             '$JS.API.DIRECT.GET.OBJ_blobs.>', '$JS.API.STREAM.MSG.GET.OBJ_blobs',\n      \
             '$JS.API.CONSUMER.CREATE.OBJ_blobs', '$JS.API.CONSUMER.CREATE.OBJ_blobs.>' ]\n    \
             subscribe: [ '_INBOX.{name}.>' ] }} }}"
        )?;
    }
    Ok(format!("authorization {{ users: [\n{users}] }}\n"))
}

fn store(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("server{index}"))
}

/// Ports that nobody had a moment ago.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Vec<_>>();
    listeners.into_iter().map(|listener| Ok(listener?.local_addr()?.port())).collect()
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.fold(0, |sum, entry| {
        let bytes = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        };
        sum.saturating_add(bytes)
    })
}
