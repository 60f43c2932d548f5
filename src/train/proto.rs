//! Protocol buffers, as far as TensorBoard's events and ONNX models need them.

/// A message under construction: fields in the order in which they are added. Zeros are written too; a reader takes them for
/// what is left out.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Message::default()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    pub fn int(mut self, field: u32, value: u64) -> Self {
        self.tag(field, 0);
        self.varint(value);
        self
    }

    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.tag(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.tag(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(self, field: u32, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// A repeated field of doubles, packed.
    pub fn doubles(self, field: u32, values: &[f64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &bytes)
    }
}

/// What a field of a message holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Int(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message in their order, by number; `None` where the bytes are no message.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Field<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Int(take_varint(&mut bytes)?),
            1 => Field::Fixed64(*take(&mut bytes, 8)?.first_chunk()?),
            2 => {
                let len = take_varint(&mut bytes)?;
                Field::Bytes(take(&mut bytes, usize::try_from(len).ok()?)?)
            }
            5 => Field::Fixed32(*take(&mut bytes, 4)?.first_chunk()?),
            _ => return None,
        };
        all.push((u32::try_from(tag >> 3).ok()?, field));
    }
    Some(all)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Field, Message, fields};

    #[test]
    fn what_is_written_is_read() {
        let message = Message::new().int(1, u64::MAX).double(2, 0.5).text(300, "x").float(4, 2.0).into_bytes();
        let want = [
            (1, Field::Int(u64::MAX)),
            (2, Field::Fixed64(0.5f64.to_le_bytes())),
            (300, Field::Bytes(b"x")),
            (4, Field::Fixed32(2f32.to_le_bytes())),
        ];
        assert_eq!(fields(&message).unwrap(), want);
        for bytes in
            [&b"\x08"[..], b"\x12\x05ab", b"\x0b", b"\x09\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
        {
            assert_eq!(fields(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn noise_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            fields(&bytes);
        }
    }

    /// The examples of the encoding's own documentation: 150, "testing", and a message within one.
    #[test]
    fn known_answers() {
        assert_eq!(Message::new().int(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").into_bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().message(3, Message::new().int(1, 150)).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().int(16, u64::MAX).into_bytes()[..3], [0x80, 0x01, 0xff]);
        assert_eq!(Message::new().double(1, 1.0).float(2, 1.0).into_bytes().len(), 14);
        assert_eq!(Message::new().doubles(4, &[0.0]).into_bytes(), [0x22, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
