//! Frames of `wire.rs`, as bytes.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::wire;

pub(crate) fn write_frame(socket: &mut TcpStream, frame: &[u8]) -> Option<()> {
    socket.write_all(frame).ok()
}

/// A whole frame, and the value in it. None at the end.
pub(crate) fn read_frame(socket: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut head = [0; 4];
    socket.read_exact(&mut head).ok()?;
    let mut value = vec![0; wire::length(head)?];
    socket.read_exact(&mut value).ok()?;
    Some(([&head[..], &value].concat(), value))
}
