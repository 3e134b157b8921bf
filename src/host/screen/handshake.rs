//! The beginning of a session, on both sides: the viewer speaks to us, we speak to QEMU, neither asks for a password.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::server::PixelFormat;

/// The version that QEMU speaks, and the newest.
const VERSION: &[u8; 12] = b"RFB 003.008\n";

/// Longest name of a screen.
const LONGEST_NAME: u32 = 4096;

/// What a server says of its screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Width and height in pixels.
    pub(super) size: (u16, u16),
    /// How pixels are sent until the viewer asks for something else.
    pub(super) format: PixelFormat,
    /// As the server sent it.
    pub(super) bytes: Vec<u8>,
}

/// Opens a session with a server.
pub(super) async fn with_server(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Greeting> {
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    if version != *VERSION {
        return Err(invalid("the screen's server speaks another version of the protocol"));
    }
    stream.write_all(VERSION).await?;
    let count = stream.read_u8().await?;
    let mut types = vec![0; usize::from(count)];
    stream.read_exact(&mut types).await?;
    if !types.contains(&1) {
        return Err(invalid("the screen's server wants a password"));
    }
    stream.write_all(&[1]).await?;
    if stream.read_u32().await? != 0 {
        return Err(invalid("the screen's server refuses viewers"));
    }
    // Others may look at the same time.
    stream.write_all(&[1]).await?;
    let mut bytes = vec![0; 24];
    stream.read_exact(&mut bytes).await?;
    let size = (u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]]));
    let mut format = [0; 16];
    format.copy_from_slice(&bytes[4..20]);
    let name = u32::from_be_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]);
    if name > LONGEST_NAME {
        return Err(invalid("the screen's name is too long"));
    }
    bytes.resize(24 + name as usize, 0);
    stream.read_exact(&mut bytes[24..]).await?;
    Ok(Greeting { size, format: PixelFormat(format), bytes })
}

/// Opens the session with a viewer, up to the greeting, which the caller sends.
pub(super) async fn with_viewer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(VERSION).await?;
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    match &version {
        b"RFB 003.003\n" => stream.write_all(&[0, 0, 0, 1]).await?,
        b"RFB 003.007\n" | b"RFB 003.008\n" => {
            stream.write_all(&[1, 1]).await?;
            if stream.read_u8().await? != 1 {
                return Err(invalid("the viewer wants to be asked for a password"));
            }
            if version == *VERSION {
                stream.write_all(&[0; 4]).await?;
            }
        }
        _ => return Err(invalid("the viewer speaks another version of the protocol")),
    }
    // Whether it wants to be alone: it is not, as on a real screen.
    stream.read_u8().await?;
    Ok(())
}

fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_sides_understand_each_other_in_every_version() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let greeting =
            [&[4, 0, 3, 0], &[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0][..], &[0, 0, 0, 2], b"vm"];
        let greeting = greeting.concat();
        let sent = greeting.clone();
        let server = tokio::spawn(async move {
            with_viewer(&mut theirs).await.unwrap();
            theirs.write_all(&sent).await.unwrap();
        });
        let got = with_server(&mut ours).await.unwrap();
        server.await.unwrap();
        assert_eq!((got.size, got.bytes), ((1024, 768), greeting));

        for (version, exchange) in [("RFB 003.003\n", 1), ("RFB 003.007\n", 2), ("RFB 003.008\n", 3)] {
            let (mut viewer, mut theirs) = tokio::io::duplex(64);
            let server = tokio::spawn(async move { with_viewer(&mut theirs).await });
            let mut told = [0; 12];
            viewer.read_exact(&mut told).await.unwrap();
            viewer.write_all(version.as_bytes()).await.unwrap();
            if exchange == 1 {
                assert_eq!(viewer.read_u32().await.unwrap(), 1);
            } else {
                assert_eq!(viewer.read_u16().await.unwrap(), 0x0101);
                viewer.write_u8(1).await.unwrap();
            }
            if exchange == 3 {
                assert_eq!(viewer.read_u32().await.unwrap(), 0);
            }
            viewer.write_u8(0).await.unwrap();
            server.await.unwrap().unwrap_or_else(|e| panic!("{version}: {e}"));
        }
    }

    #[tokio::test]
    async fn strange_servers_are_refused() {
        for said in [&b"RFB 004.001\n"[..], b"RFB 003.008\n\x01\x02", b"RFB 003.008\n\x01\x01\0\0\0\x01"] {
            let (mut ours, mut theirs) = tokio::io::duplex(256);
            theirs.write_all(said).await.unwrap();
            let refused = with_server(&mut ours).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{said:?}");
        }
    }
}
