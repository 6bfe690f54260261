//! Numbers for pods, dense and small.

/// A pod by its name, object or not. Used again once it is settled that there is no such pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(u32);

/// What is known by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    all: Vec<Option<T>>,
    free: Vec<PodId>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { all: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> PodId {
        if let Some(id) = self.free.pop() {
            self.all[id.0 as usize] = Some(value);
            return id;
        }
        self.all.push(Some(value));
        // Four thousand million pods do not fit into memory.
        PodId((self.all.len() - 1) as u32)
    }

    pub(super) fn get(&self, id: PodId) -> Option<&T> {
        self.all.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: PodId) -> Option<&mut T> {
        self.all.get_mut(id.0 as usize)?.as_mut()
    }

    /// Takes it out if it is as said.
    pub(super) fn take_if(&mut self, id: PodId, is_so: impl FnOnce(&mut T) -> bool) -> Option<T> {
        let taken = self.all.get_mut(id.0 as usize)?.take_if(is_so)?;
        self.free.push(id);
        Some(taken)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PodId, &T)> {
        (0..).zip(&self.all).filter_map(|(id, value)| Some((PodId(id), value.as_ref()?)))
    }
}
