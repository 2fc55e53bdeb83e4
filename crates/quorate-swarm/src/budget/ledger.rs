//! Accounts, and what is set aside in them.

use std::collections::BTreeMap;
use std::fmt;

use quorate_base::{TaskId, Timestamp};

use super::{Amount, Budget, Source, Unit};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Whose spending it is. A launch spends from one of each kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    Run,
    /// All runs of the workspace in one day of UTC.
    Day,
    /// All launches of one agent declaration.
    Agent(String),
    /// All attempts at one task.
    Task(TaskId),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("the run"),
            Self::Day => f.write_str("the day"),
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::Task(task) => write!(f, "task {task}"),
        }
    }
}

/// What will be set aside and is not yet: launches on their way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra(BTreeMap<Account, Amount>);

impl Extra {
    pub fn add(&mut self, agent: &str, task: &TaskId, amount: Amount) {
        for account in path(agent, task) {
            let sum = self.0.entry(account).or_default();
            *sum = sum.plus(amount);
        }
    }

    fn of(&self, account: &Account, unit: Unit) -> u64 {
        self.0.get(account).map_or(0, |amount| amount.of(unit))
    }
}

/// Whose spending a launch is.
fn path(agent: &str, task: &TaskId) -> [Account; 4] {
    [Account::Day, Account::Run, Account::Agent(agent.to_owned()), Account::Task(task.clone())]
}

/// Nothing more can be set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub account: Account,
    pub unit: Unit,
    /// It is all spent; otherwise some of what is set aside may become free.
    pub spent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Entry {
    budget: Budget,
    spent: Amount,
    set_aside: Amount,
}

impl Entry {
    /// What can still be set aside.
    fn free(&self, unit: Unit) -> Option<u64> {
        let used = self.spent.of(unit).saturating_add(self.set_aside.of(unit));
        self.budget.of(unit).map(|most| most.saturating_sub(used))
    }
}

/// All accounts of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    entries: BTreeMap<Account, Entry>,
    /// Days since 1970 of the account of the day.
    day: u64,
    /// What is set aside, by task.
    launches: BTreeMap<TaskId, Set>,
    empty: BTreeMap<Account, Unit>,
}

/// What is set aside for one launch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    agent: String,
    amount: Amount,
    reported: Amount,
}

impl Ledger {
    /// `spent_today` is what other runs had spent when this one started.
    pub fn new(run: Budget, day: Budget, started: Timestamp, spent_today: Amount) -> Self {
        let run = Entry { budget: run, ..Entry::default() };
        let day = Entry { budget: day, spent: spent_today, ..Entry::default() };
        let entries = BTreeMap::from([(Account::Run, run), (Account::Day, day)]);
        let (launches, empty) = (BTreeMap::new(), BTreeMap::new());
        let mut ledger = Self { entries, day: started.0 / DAY_MS, launches, empty };
        [Account::Run, Account::Day].iter().for_each(|account| ledger.look(account));
        ledger
    }

    /// Bounds an account.
    pub fn bound(&mut self, account: &Account, budget: Budget) {
        if !budget.is_none() {
            self.entries.entry(account.clone()).or_default().budget = budget;
            self.look(account);
        }
    }

    /// Takes note of whether there is anything left in an account.
    fn look(&mut self, account: &Account) {
        let Some(entry) = self.entries.get(account) else {
            return;
        };
        let empty = |unit: &Unit| entry.free(*unit) == Some(0) && entry.set_aside.of(*unit) == 0;
        match Unit::ALL.into_iter().find(empty) {
            Some(unit) => self.empty.insert(account.clone(), unit),
            None => self.empty.remove(account),
        };
    }

    /// Accounts in which all of a unit is spent, and nothing of it is set aside that could come back.
    pub fn empty(&self) -> impl Iterator<Item = (&Account, Unit)> {
        self.empty.iter().map(|(account, unit)| (account, *unit))
    }

    /// What a launch gets: as much as it may use at most, and less where less is left, but something of each unit that anybody bounds and
    /// its `source` tells. What nobody will tell cannot be settled, and is not set aside.
    pub fn quote(
        &self,
        agent: &str,
        task: &TaskId,
        most: &Budget,
        source: Source,
        extra: &Extra,
    ) -> Result<Amount, Refusal> {
        let mut quoted = Amount::default();
        let path = path(agent, task);
        for unit in Unit::ALL.into_iter().filter(|unit| source.tells(*unit)) {
            let mut amount = most.of(unit);
            for account in &path {
                let Some((entry, free)) =
                    self.entries.get(account).and_then(|entry| Some((entry, entry.free(unit)?)))
                else {
                    continue;
                };
                let on_its_way = extra.of(account, unit);
                let free = free.saturating_sub(on_its_way);
                if free == 0 {
                    let spent = entry.set_aside.of(unit) == 0 && on_its_way == 0;
                    return Err(Refusal { account: account.clone(), unit, spent });
                }
                amount = Some(amount.map_or(free, |amount| amount.min(free)));
            }
            quoted.set(unit, amount.unwrap_or(0));
        }
        Ok(quoted)
    }

    /// Sets an amount aside, in all accounts of the launch.
    pub fn set_aside(&mut self, agent: &str, task: &TaskId, amount: Amount) {
        self.give_back(task);
        self.change(agent, task, |entry| entry.set_aside = entry.set_aside.plus(amount));
        let set = Set { agent: agent.to_owned(), amount, reported: Amount::default() };
        self.launches.insert(task.clone(), set);
    }

    /// What the launch has said it has used so far.
    pub fn report(&mut self, task: &TaskId, used: Amount) {
        if let Some(set) = self.launches.get_mut(task) {
            set.reported = set.reported.max(used);
        }
    }

    /// The launch is over: what it used is spent, and the rest is free. Units of which nobody knows more are taken to be as reported last.
    pub fn settle(&mut self, now: Timestamp, task: &TaskId, used: Amount) {
        let day = now.0 / DAY_MS;
        if day > self.day {
            self.day = day;
            if let Some(entry) = self.entries.get_mut(&Account::Day) {
                entry.spent = Amount::default();
            }
            self.look(&Account::Day);
        }
        if let Some(set) = self.give_back(task) {
            let used = used.max(set.reported);
            self.change(&set.agent, task, |entry| entry.spent = entry.spent.plus(used));
        }
    }

    fn give_back(&mut self, task: &TaskId) -> Option<Set> {
        let set = self.launches.remove(task)?;
        self.change(&set.agent, task, |entry| entry.set_aside = entry.set_aside.minus(set.amount));
        Some(set)
    }

    fn change(&mut self, agent: &str, task: &TaskId, mut how: impl FnMut(&mut Entry)) {
        for account in path(agent, task) {
            match account {
                // Tasks without a budget need no account, and there may be many.
                Account::Task(_) => {
                    self.entries.entry(account).and_modify(&mut how);
                }
                _ => how(self.entries.entry(account).or_default()),
            }
        }
        path(agent, task).iter().for_each(|account| self.look(account));
    }

    /// What an account has spent.
    pub fn spent(&self, account: &Account) -> Amount {
        self.entries.get(account).map(|entry| entry.spent).unwrap_or_default()
    }

    /// What is set aside in an account.
    pub fn in_hand(&self, account: &Account) -> Amount {
        self.entries.get(account).map(|entry| entry.set_aside).unwrap_or_default()
    }

    pub fn budget(&self, account: &Account) -> Budget {
        self.entries.get(account).map(|entry| entry.budget).unwrap_or_default()
    }

    /// Accounts that bound something or have spent something.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.entries.keys()
    }
}
