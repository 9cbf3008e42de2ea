"""API keys: who may, makes them, sees what they do, changes, rotates and revokes them."""

from uuid import UUID

import reflex as rx

from api.errors import ApiError, not_found
from api.tenants import keys
from api.types import now
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.key_form import (
    OVERLAPS,
    Draft,
    KeyForm,
    WrongFields,
    changes_of,
    draft_of,
    kind_of,
)
from callmissed_app.states.key_rows import KeyRow, first_model, row_of
from callmissed_app.states.models import offers
from callmissed_app.states.snippets import first_call


class KeysState(Base):
    loaded: bool = False
    allowed: bool = True
    """Owners and admins."""
    rows: list[KeyRow] = rx.field(default_factory=list)
    models: list[str] = rx.field(default_factory=list)
    """Ids of what answers now."""
    choices: list[str] = rx.field(default_factory=list)
    """Ids that the key in the form can be limited to."""

    chosen: KeyRow = KeyRow()
    details_open: bool = False
    revoking: bool = False
    rotating: bool = False

    form_open: bool = False
    draft: Draft = Draft()
    draft_number: int = 0
    """Grows with every opening, so that the fields start afresh."""
    errors: dict[str, str] = rx.field(default_factory=dict)
    more_open: bool = False

    secret: str = ""
    """The plaintext of a key just made, until the person says that it is kept."""
    secret_asked: bool = False
    language: str = "curl"
    code: str = ""
    _example: str = "auto"
    """A model that the key just made can ask."""

    @handler
    async def load(self, caller):
        """The organization's keys; `?new=1` opens the form."""
        self.allowed = caller.role in ("owner", "admin")
        if self.allowed:
            self.models = [offer.id for offer in offers(caller)]
            await self._list(caller)
            if self.router.url.query_parameters.get("new"):
                self._open(Draft())
        self.loaded = True

    @handler
    async def open_new(self, caller):
        """An empty form."""
        keys.require_manager(caller)
        self._open(Draft())

    @handler
    async def open_edit(self, caller):
        """The form of the key whose details are open."""
        self._open(draft_of(await keys.get_key(services().database, caller, self._chosen_id())))

    @handler
    async def close_form(self, caller):
        """Nothing is changed."""
        self.form_open = False

    @handler
    async def save(self, caller, form: KeyForm):
        """Make the key, or change it, as the form says; what is wrong is said beside the fields."""
        try:
            await (self._change(caller, form) if self.draft.id else self._create(caller, form))
            self.form_open = False
            await self._list(caller)
        except WrongFields as error:
            self.errors = error.sentences
            self.more_open = bool(self.errors.keys() - {"name", "budget", "expiry"})
        except ApiError as error:
            if error.param != "budget_limit":
                raise
            self.errors = {"budget": error.message}

    @handler
    async def open_details(self, caller, key_id: str):
        """What one key allows and has done."""
        self.chosen = next((row for row in self.rows if row.id == key_id), KeyRow())
        self.details_open, self.revoking = bool(self.chosen.id), False

    @handler
    async def close_details(self, caller):
        """Back to the list."""
        self.details_open = self.revoking = False

    @handler
    async def ask_revoke(self, caller):
        """Ask once more before revoking."""
        self.revoking = not self.revoking

    @handler
    async def revoke(self, caller):
        """End the key for good, within a second."""
        key = await keys.revoke_key(services().database, caller, self._chosen_id())
        services().keys.forget(key.id)
        self.details_open = self.revoking = False
        self._say(f"“{key.name}” is revoked. Calls with it fail from now on.")
        await self._list(caller)

    @handler
    async def remove(self, caller):
        """Take an ended key off the list; what it used and spent stays in the books."""
        if not self.chosen.active:
            await keys.delete_key(services().database, caller, self._chosen_id())
            self.details_open = False
            await self._list(caller)

    @handler
    async def ask_rotate(self, caller):
        """Ask when the old secret shall end, or stop asking."""
        self.rotating = not self.rotating

    @handler
    async def rotate(self, caller, form: dict):
        """A new secret for the key; the old one ends when the form says."""
        overlap = str(form.get("overlap"))
        hours = int(overlap) if overlap in dict(OVERLAPS) else 24
        held = services()
        key_id = self._chosen_id()
        key, text = await keys.rotate_key(held.database, held.secret, caller, key_id, overlap_hours=hours)
        held.keys.forget(key.id)
        self.rotating = self.details_open = False
        self._show(key, text)
        await self._list(caller)

    @handler
    async def choose_language(self, caller, language: str):
        """The first call with the new key, in another language."""
        self._write(str(language))

    @handler
    async def forget_secret(self, caller, kept: bool):
        """Close the new secret when it is `kept`; else ask once whether it is."""
        if kept or self.secret_asked:
            self.secret, self.code, self.secret_asked = "", "", False
        else:
            self.secret_asked = True

    async def _create(self, caller, form: KeyForm) -> None:
        held, changes = services(), changes_of(form, scopes="", now=now())
        lists = {name: tuple(changes[name]) for name in ("allowed_domains", "allowed_models")}
        new = keys.NewKey(**{**changes, **lists, "kind": kind_of(form)})
        self._show(*await keys.create_key(held.database, held.secret, caller, new))

    async def _change(self, caller, form: KeyForm) -> None:
        held, key_id = services(), UUID(self.draft.id)
        before = await keys.get_key(held.database, caller, key_id)
        changes = changes_of(form, scopes=before.scopes, now=now())
        after = await keys.update_key(held.database, caller, key_id, changes)
        held.keys.forget(key_id)
        self.details_open = False
        self._say(f"“{after.name}” is changed, in force now.")

    def _open(self, draft: Draft) -> None:
        self.draft, self.errors, self.form_open, self.more_open = draft, {}, True, False
        self.choices = list(dict.fromkeys([*self.models, *draft.models]))
        self.draft_number += 1

    def _show(self, key: keys.KeyDetails, text: str) -> None:
        self.chosen, self.secret, self.secret_asked = row_of(key, now()), text, False
        self._example = first_model(key, self.models)
        self._write(self.language)

    def _write(self, language: str) -> None:
        origin = services().settings.origin
        self.language = language
        self.code = first_call(language, origin, model=self._example, key=self.secret)

    def _chosen_id(self) -> UUID:
        if not self.chosen.id:
            raise not_found("API key")
        return UUID(self.chosen.id)

    async def _list(self, caller) -> None:
        moment, found = now(), await keys.list_keys(services().database, caller)
        self.rows = sorted((row_of(key, moment) for key in found), key=lambda row: not row.active)
