//! Writing frames the way a first implementation does.

/// Appends the frame of a final binary message, masked if there is a key.
pub(crate) fn frame(out: &mut Vec<u8>, payload: &[u8], key: Option<[u8; 4]>) {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let len = payload.len();
    out.push(0x82);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => out.push(mask | len),
        (_, Ok(len)) => {
            out.push(mask | 126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    match key {
        Some(key) => {
            out.extend(key);
            out.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]));
        }
        None => out.extend(payload),
    }
}
