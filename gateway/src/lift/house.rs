//! Who is where, from the local table and the grants, as the kernel asks for it.

use std::sync::Arc;

use ipnet::IpNet;
use policy::Subscriber;

use crate::{
    clock,
    grants::Grants,
    sims::Sims,
    steering::{Resident, Residents},
};

/// The local table and the grants, together.
pub(crate) struct House {
    sims: Arc<Sims>,
    grants: Arc<Grants>,
}

impl House {
    pub(crate) fn new(sims: Arc<Sims>, grants: Arc<Grants>) -> Self {
        Self { sims, grants }
    }

    fn resident(&self, subscriber: Subscriber) -> Resident {
        let grant = self.grants.pass(&subscriber, clock::now());
        Resident { subscriber, grant }
    }
}

impl Residents for House {
    fn at(&self, block: IpNet) -> Option<Resident> {
        self.sims.at(block).map(|subscriber| self.resident(subscriber))
    }

    fn each(&self, visit: &mut dyn FnMut(IpNet, &Resident)) {
        self.sims.each(|block, subscriber| visit(block, &self.resident(subscriber)));
    }
}
