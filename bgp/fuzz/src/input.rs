//! Values out of the octets that the engine makes up. At their end there are zeros: every input means something.

/// Takes values from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Of these octets.
    pub(crate) fn new(octets: &'a [u8]) -> Input<'a> {
        Input { rest: octets }
    }

    /// Whether all is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One octet.
    pub(crate) fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.octet()) % limit
    }

    /// Whether the next octet is odd.
    pub(crate) fn flag(&mut self) -> bool {
        self.octet() & 1 == 1
    }

    /// Two octets.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    /// As many octets as the next one says, as far as they are there.
    pub(crate) fn chunk(&mut self) -> &'a [u8] {
        let count = usize::from(self.octet()).min(self.rest.len());
        let (chunk, rest) = self.rest.split_at(count);
        self.rest = rest;
        chunk
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
