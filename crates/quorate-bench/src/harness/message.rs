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
