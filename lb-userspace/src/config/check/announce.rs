//! Announcing: a device that can be, pools that exist, a program that is named in full.

use super::{Checker, Wanted, fields::one_of, interface, path, routes::Pool};
use crate::config::{Announce, MAX_BACKENDS, RouteConfig, locate::Path, text};

const DEVICE: Wanted = Wanted::new("a device", "a name such as lo");
const HOOK: Wanted = Wanted::new("an absolute path", "one that begins with /");
const POOL: Wanted = Wanted::new("a pool", "its name");
const GRACE: Wanted = Wanted::new(
    "a duration up to 10m",
    "a number and a unit, such as 5s, or 0s for none",
);

impl Checker {
    pub(super) fn announce(
        &mut self,
        at: &Path,
        field: text::Field<text::Announce>,
        pools: &[Pool],
        routes: &[RouteConfig],
    ) -> Option<Announce> {
        let text = self.fields.section(at, field)?;
        let device = self
            .fields
            .optional(&at.key("device"), text.device, DEVICE, |text| {
                interface(text.to_owned())
            });
        let hook = self.fields.optional(&at.key("hook"), text.hook, HOOK, path);
        let grace = self.duration(&at.key("grace"), text.grace, GRACE, 0..=600_000);
        let required = match text.required {
            text::Field::Absent => {
                let places = 0..pools.len();
                let is_used = |place: &usize| routes.iter().any(|route| route.pool == *place);
                places.filter(is_used).collect()
            }
            field => self.required_pools(&at.key("required"), field, pools),
        };
        Some(Announce {
            device,
            required,
            grace: grace.unwrap_or(Announce::DEFAULT_GRACE),
            hook,
        })
    }

    fn required_pools(
        &mut self,
        at: &Path,
        field: text::Field<Vec<text::Field<String>>>,
        pools: &[Pool],
    ) -> Vec<usize> {
        let names = pools.iter().map(|pool| pool.name.as_deref().unwrap_or(""));
        let names = names.collect::<Vec<_>>();
        let wanted = self
            .fields
            .words(at, field, MAX_BACKENDS, POOL, |name: String| Some(name));
        let mut places = Vec::new();
        for (index, name) in wanted.iter().enumerate() {
            match names.iter().position(|known| known == name) {
                Some(place) => places.push(place),
                None => {
                    let what = format!(
                        "{} is not a pool; write {}",
                        text::shown(name),
                        one_of(&names)
                    );
                    self.fields.problems.add(&at.item(index), what);
                }
            }
        }
        places
    }
}
