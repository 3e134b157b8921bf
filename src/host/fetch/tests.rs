use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A server that answers its n-th request with `answer(n, request)` and then hangs up.
async fn serve(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/disk.img", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let requests = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                request.push(byte[0]);
            }
            let number = requests.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(&answer(number, &String::from_utf8_lossy(&request))).await;
        }
    });
    (url, count)
}

fn sha256(content: &[u8]) -> (String, String) {
    ("sha256".into(), checks::hex("sha256", content).unwrap())
}

async fn fetch(url: &str, checksums: &[(String, String)]) -> (Result<(), Failure>, Vec<u8>) {
    // Another test may have been faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("incoming");
    let result = download(url, None, &file, Checks::new(checksums).unwrap(), &mut |_, _| {}).await;
    (result, std::fs::read(file).unwrap())
}

#[tokio::test]
async fn a_download_is_stored_and_checked() {
    let (url, _) = serve(|_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec()).await;
    let (result, content) = fetch(&url, &[sha256(b"hello")]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(content, b"hello");
    let (result, _) = fetch(&url, &[sha256(b"other")]).await;
    assert_eq!(result.unwrap_err().kind, VolumeFailure::Checksum);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let (url, count) = serve(|number, request| match number {
        0 => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\netag: \"v1\"\r\n\r\nhello".to_vec(),
        _ => {
            let request = request.to_ascii_lowercase();
            assert!(request.contains("range: bytes=5-\r\n") && request.contains("if-range: \"v1\""), "{request}");
            b"HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\ncontent-range: bytes 5-9/10\r\netag: \"v1\"\r\n\r\nworld".to_vec()
        }
    })
    .await;
    let (result, content) = fetch(&url, &[sha256(b"helloworld")]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(content, b"helloworld");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn changed_content_is_taken_from_the_beginning() {
    let (url, _) = serve(|number, _| match number {
        0 => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\netag: \"v1\"\r\n\r\nhello".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\netag: \"v2\"\r\n\r\nnew".to_vec(),
    })
    .await;
    let (result, content) = fetch(&url, &[sha256(b"new")]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(content, b"new");
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (url, count) = serve(|_, _| b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let (result, _) = fetch(&url, &[]).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, VolumeFailure::Source);
    assert!(failure.detail.contains("404"), "{}", failure.detail);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}
