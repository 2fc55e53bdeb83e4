//! The message that is sent around, and the proof that none was lost, doubled, reordered or damaged.

use anyhow::ensure;

/// 64 bytes, the size at which the channels and buses are compared. Every word is written and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Message {
    pub(crate) producer: u64,
    /// From nought, one after the other, for each producer.
    pub(crate) sequence: u64,
    /// When it was to be sent, in nanoseconds since the run's beginning; nought where nobody asks.
    pub(crate) due: u64,
    body: [u64; 5],
}

impl Message {
    pub(crate) fn new(producer: u64, sequence: u64, due: u64) -> Self {
        Self { producer, sequence, due, body: [producer ^ sequence; 5] }
    }

    pub(crate) fn to_bytes(self) -> [u8; 64] {
        let [a, b, c, d, e] = self.body;
        let mut bytes = [0; 64];
        let words = [self.producer, self.sequence, self.due, a, b, c, d, e];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// Of a payload; one of another length is a damaged message.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let Ok(bytes) = <&[u8; 64]>::try_from(bytes) else {
            return Self { producer: 0, sequence: u64::MAX - 1, due: 0, body: [0; 5] };
        };
        let words = bytes.as_chunks::<8>().0;
        let word = |at: usize| u64::from_le_bytes(words[at]);
        let body = [word(3), word(4), word(5), word(6), word(7)];
        Self { producer: word(0), sequence: word(1), due: word(2), body }
    }

    fn intact(&self) -> bool {
        self.body.iter().all(|word| *word == self.producer ^ self.sequence)
    }
}

/// What a receiver keeps to tell that everything came, once and in order.
#[derive(Debug)]
pub(crate) struct Order {
    /// By producer.
    next: Vec<u64>,
    faults: u64,
}

impl Order {
    pub(crate) fn new(producers: usize) -> Self {
        Self { next: vec![0; producers], faults: 0 }
    }

    pub(crate) fn take(&mut self, message: &Message) {
        self.sequence(message.producer as usize, message.sequence);
        self.faults += u64::from(!message.intact());
    }

    /// For those that carry something else than a [`Message`].
    pub(crate) fn sequence(&mut self, producer: usize, sequence: u64) {
        let next = &mut self.next[producer];
        self.faults += u64::from(*next != sequence);
        *next = sequence + 1;
    }

    /// Fails unless each producer's messages came, as many as stated.
    pub(crate) fn finish(&self, each: u64) -> anyhow::Result<()> {
        let complete = self.next.iter().all(|next| *next == each);
        let (faults, next) = (self.faults, &self.next);
        ensure!(
            complete && faults == 0,
            "of {each} messages of each producer came {next:?}, {faults} of them out of order or damaged"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fills_one_cache_line() {
        assert_eq!(size_of::<Message>(), 64);
    }

    #[test]
    fn bytes_are_the_message() {
        let message = Message::new(3, 5, 7);
        assert_eq!(Message::from_bytes(&message.to_bytes()), message);
        assert!(!Message::from_bytes(&[0; 63]).intact());
    }

    #[test]
    fn loss_repetition_exchange_and_damage_are_faults() {
        let finished = |sequences: &[u64]| {
            let mut order = Order::new(1);
            sequences.iter().for_each(|sequence| order.take(&Message::new(0, *sequence, 0)));
            order.finish(3).is_ok()
        };
        assert!(finished(&[0, 1, 2]));
        for broken in [&[0, 1][..], &[0, 2], &[0, 1, 1, 2], &[1, 0, 2], &[0, 1, 2, 3]] {
            assert!(!finished(broken), "{broken:?}");
        }
        let mut order = Order::new(1);
        order.take(&Message { body: [0, 0, 0, 0, 1], ..Message::new(0, 0, 0) });
        assert!(order.finish(1).is_err());
    }
}
