"""The ledger's operations, applied a batch at a time, with one meaning on both databases.

SQLite: rows inserted into the view `ledger_operations` are applied by its triggers, one by one in order, so
that a whole batch is one statement and one commit. PostgreSQL: the function `ledger_apply` does the same.

An operation is applied whole or not at all, and once: its `id` is the id of the transfer it makes, and what
it made is found under that id ever after.

- `hold`     holds `amount` for `request` if the wallet and every budget named has room for all of it.
- `extend`   holds `amount` more for an open request; with `partial`, as much of it as there is room for.
- `settle`   charges an open request `amount`, at most what it holds plus what there is room for (held first,
             as a transfer with the id `overrun`); frees the rest; writes the usage row.
- `void`, `expire`  free all that an open request holds; write the usage row. `expire` does so even if the
             request has one: nothing is held for ever.
- `record`   writes a usage row for a request that held nothing, unless there is one.

A charge burns promo, then plan, then paid credits. Ids are 32 hex digits.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Columns of a usage row that come with the operation: texts with the length they are cut to, then the rest.
TEXTS = {
    "service": 32,
    "endpoint": 64,
    "model": 200,
    "provider": 32,
    "upstream_model": 200,
    "outcome": 16,
    "error_code": 64,
    "finish_reason": 32,
    "usage_source": 16,
    "price_version": 64,
    "session_id": 64,
    "trace_id": 64,
}
INTEGERS = (
    "status_code",
    "attempts",
    "latency_ms",
    "first_byte_ms",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
MOST = 2_147_483_647
"""What an integer column holds."""
BOOLEANS = {"streamed": "false", "live": "true"}
IDS = ("api_key_id", "user_id")
USAGE = ("created_at", *TEXTS, *INTEGERS, *BOOLEANS, *IDS)
MONEY = ("held", "charge", "provider_loss")

MOVEMENT = (
    "tenant_id, id, kind, debit, credit, amount, promo, plan, paid, reference, resolves, budgets, created_at"
)


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE if sqlite else POSTGRESQL:
        # Without SQLAlchemy's own reading of colons and percent signs.
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for trigger in ("transfers_no_update", "transfers_no_delete"):
            op.execute(f"DROP TRIGGER {trigger}")
        op.execute("DROP VIEW ledger_operations")
        op.execute("DROP VIEW ledger_room")
    else:
        op.execute("DROP FUNCTION ledger_apply(jsonb)")
        op.execute("DROP TRIGGER transfers_append_only ON transfers")
        op.execute("DROP FUNCTION ledger_refuse_change()")


def sqlite_usage() -> str:
    texts = [f"substr(COALESCE({_given(name)}, ''), 1, {cut})" for name, cut in TEXTS.items()]
    integers = [f"min(COALESCE({_given(name)}, 0), {MOST})" for name in INTEGERS]
    booleans = [f"COALESCE({_given(name)}, {otherwise})" for name, otherwise in BOOLEANS.items()]
    ids = [_given(name) for name in IDS]
    return ", ".join([f"COALESCE({_given('created_at')}, NEW.at)", *texts, *integers, *booleans, *ids])


def _given(name: str) -> str:
    return f"json_extract(NEW.detail, '$.usage.{name}')"


OF_THE_REQUEST = "tenant_id = NEW.tenant_id AND id = NEW.request_id"
THE_HOLD = "h.tenant_id = NEW.tenant_id AND h.id = NEW.request_id"
# What a resolution charges: nothing, unless it is a settle, whose operation alone has an amount.
CHARGE = "min(NEW.amount, h.amount)"
NAMED_BUDGETS = "(SELECT value FROM json_each(NEW.budgets))"
HELD_IN_BUDGETS = f"(SELECT b.value FROM open_holds h, json_each(h.budgets) b WHERE {THE_HOLD})"
HAS_ROW = f"EXISTS (SELECT 1 FROM usage_rows WHERE {OF_THE_REQUEST})"
RESOLVES = "(NEW.kind = 'settle' OR NEW.kind = 'void' OR NEW.kind = 'expire')"
# Most requests cost no more than they hold and name no budget. Two triggers of which one runs are cheaper
# than steps that find nothing to do.
IS_PLAIN = "NEW.amount <= h.amount AND h.budgets = '[]'"


def a_further_hold(identity: str) -> str:
    """Steps after an INSERT INTO transfers of a further hold for an open request.

    changes() is the number of rows the statement before it in the same trigger changed: what follows a step
    that did nothing does nothing.
    """
    made = f"(SELECT amount FROM transfers WHERE tenant_id = NEW.tenant_id AND id = {identity})"
    return f"""
        UPDATE wallets SET held = held + {made} WHERE changes() = 1 AND tenant_id = NEW.tenant_id;
        UPDATE open_holds SET amount = amount + {made} WHERE changes() = 1 AND {OF_THE_REQUEST};
        UPDATE budgets SET held = held + {made}
         WHERE changes() = 1 AND tenant_id = NEW.tenant_id AND id IN {HELD_IN_BUDGETS};
    """


def hold(condition: str) -> str:
    return f"""
        UPDATE wallets SET held = held + NEW.amount
         WHERE tenant_id = NEW.tenant_id
           AND promo + plan + paid - held >= NEW.amount
           AND NOT EXISTS (SELECT 1 FROM transfers WHERE tenant_id = NEW.tenant_id AND id = NEW.id)
           {condition};
        INSERT INTO transfers ({MOVEMENT})
        SELECT NEW.tenant_id, NEW.id, 'hold', 'wallet', 'held', NEW.amount, 0, 0, 0,
               NEW.request_id, NULL, '[]', NEW.at
         WHERE changes() = 1;
        INSERT INTO open_holds (tenant_id, id, amount, budgets, context, created_at, expires_at)
        SELECT NEW.tenant_id, NEW.request_id, NEW.amount, COALESCE(NEW.budgets, '[]'),
               json_extract(NEW.detail, '$.context'), NEW.at, json_extract(NEW.detail, '$.expires_at')
         WHERE changes() = 1;
    """


# Nothing here needs a guard against a second resolution: each step starts from the open hold, which the last
# one takes away.
RESOLVE_TRANSFER = f"""
        INSERT INTO transfers ({MOVEMENT})
        SELECT NEW.tenant_id, NEW.id, NEW.kind, 'held', IIF(NEW.kind = 'settle', 'revenue', 'wallet'),
               IIF(NEW.kind = 'settle', min(NEW.amount, h.amount), h.amount),
               -min(w.promo, {CHARGE}),
               -min(w.plan, {CHARGE} - min(w.promo, {CHARGE})),
               -max(0, {CHARGE} - w.promo - w.plan),
               NEW.request_id, NEW.request_id, IIF(NEW.kind = 'settle', h.budgets, '[]'), NEW.at
          FROM open_holds h JOIN wallets w ON w.tenant_id = h.tenant_id
         WHERE {THE_HOLD};
        UPDATE wallets
           SET promo = promo - min(promo, {CHARGE}),
               plan = plan - min(plan, {CHARGE} - min(promo, {CHARGE})),
               paid = paid - max(0, {CHARGE} - promo - plan),
               held = held - h.amount
          FROM open_holds h
         WHERE wallets.tenant_id = NEW.tenant_id AND {THE_HOLD};
"""
RESOLVE_USAGE = f"""
        INSERT INTO usage_rows (tenant_id, id, {", ".join((*USAGE, *MONEY))})
        SELECT NEW.tenant_id, NEW.request_id, {sqlite_usage()}, h.amount, {CHARGE}, NEW.amount - {CHARGE}
          FROM open_holds h WHERE {THE_HOLD} AND NOT (NEW.kind = 'expire' AND {HAS_ROW});
        DELETE FROM open_holds WHERE {OF_THE_REQUEST};
"""

SQLITE = (
    """
    CREATE VIEW ledger_operations(kind, tenant_id, id, request_id, amount, at, budgets, detail) AS
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    """,
    # What an open request holds, and how much more the wallet and its budgets could give.
    """
    CREATE VIEW ledger_room AS
    SELECT h.tenant_id, h.id, h.amount AS held,
           max(0, min(w.promo + w.plan + w.paid - w.held,
                      COALESCE((SELECT min(b.ceiling - b.used - b.held) FROM json_each(h.budgets) named
                                  JOIN budgets b ON b.tenant_id = h.tenant_id AND b.id = named.value),
                               w.promo + w.plan + w.paid - w.held))) AS room
      FROM open_holds h JOIN wallets w ON w.tenant_id = h.tenant_id
    """,
    f"""
    CREATE TRIGGER ledger_hold INSTEAD OF INSERT ON ledger_operations
    WHEN NEW.kind = 'hold' AND NEW.budgets IS NULL
    BEGIN {hold("")} END
    """,
    f"""
    CREATE TRIGGER ledger_hold_in_budgets INSTEAD OF INSERT ON ledger_operations
    WHEN NEW.kind = 'hold' AND NEW.budgets IS NOT NULL
    BEGIN
        {
        hold(
            f'''
           AND NOT EXISTS (
               SELECT 1 FROM {NAMED_BUDGETS} named
                 LEFT JOIN budgets b ON b.tenant_id = NEW.tenant_id AND b.id = named.value
                WHERE b.id IS NULL OR b.used + b.held + NEW.amount > b.ceiling)'''
        )
    }
        UPDATE budgets SET held = held + NEW.amount
         WHERE changes() = 1 AND tenant_id = NEW.tenant_id AND id IN {NAMED_BUDGETS};
    END
    """,
    f"""
    CREATE TRIGGER ledger_extend INSTEAD OF INSERT ON ledger_operations WHEN NEW.kind = 'extend'
    BEGIN
        INSERT INTO transfers ({MOVEMENT})
        SELECT NEW.tenant_id, NEW.id, 'hold', 'wallet', 'held', min(NEW.amount, room), 0, 0, 0,
               NEW.request_id || ':' || NEW.id, NULL, '[]', NEW.at
          FROM ledger_room
         WHERE {OF_THE_REQUEST} AND min(NEW.amount, room) > 0
           AND (room >= NEW.amount OR json_extract(NEW.detail, '$.partial'))
           AND NOT EXISTS (SELECT 1 FROM transfers WHERE tenant_id = NEW.tenant_id AND id = NEW.id);
        {a_further_hold("NEW.id")}
    END
    """,
    f"""
    CREATE TRIGGER ledger_resolve INSTEAD OF INSERT ON ledger_operations
    WHEN {RESOLVES} AND EXISTS (SELECT 1 FROM open_holds h WHERE {THE_HOLD} AND {IS_PLAIN})
    BEGIN {RESOLVE_TRANSFER} {RESOLVE_USAGE} END
    """,
    # The overrun is held first, so that from there on the charge fits the hold.
    f"""
    CREATE TRIGGER ledger_resolve_in_full INSTEAD OF INSERT ON ledger_operations
    WHEN {RESOLVES} AND EXISTS (SELECT 1 FROM open_holds h WHERE {THE_HOLD} AND NOT ({IS_PLAIN}))
    BEGIN
        INSERT INTO transfers ({MOVEMENT})
        SELECT NEW.tenant_id, json_extract(NEW.detail, '$.overrun'), 'hold', 'wallet', 'held',
               min(NEW.amount - held, room), 0, 0, 0, 'overrun:' || NEW.request_id, NULL, '[]', NEW.at
          FROM ledger_room WHERE {OF_THE_REQUEST} AND NEW.amount > held AND room > 0;
        {a_further_hold("json_extract(NEW.detail, '$.overrun')")}
        {RESOLVE_TRANSFER}
        UPDATE budgets SET used = used + {CHARGE}, held = budgets.held - h.amount
          FROM open_holds h
         WHERE budgets.tenant_id = NEW.tenant_id AND {THE_HOLD} AND budgets.id IN {HELD_IN_BUDGETS};
        {RESOLVE_USAGE}
    END
    """,
    f"""
    CREATE TRIGGER ledger_record INSTEAD OF INSERT ON ledger_operations WHEN NEW.kind = 'record'
    BEGIN
        INSERT INTO usage_rows (tenant_id, id, {", ".join((*USAGE, *MONEY))})
        SELECT NEW.tenant_id, NEW.request_id, {sqlite_usage()}, 0, 0, 0
         WHERE NOT {HAS_ROW}
           AND NOT EXISTS (SELECT 1 FROM open_holds WHERE {OF_THE_REQUEST});
    END
    """,
    """
    CREATE TRIGGER transfers_no_update BEFORE UPDATE ON transfers
    BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END
    """,
    """
    CREATE TRIGGER transfers_no_delete BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END
    """,
)


def postgresql_usage() -> tuple[str, str]:
    """The columns of a usage row, read from `d.usage`, and the record they are read through."""
    texts = [f"left(COALESCE(u.{name}, ''), {cut})" for name, cut in TEXTS.items()]
    integers = [f"least(COALESCE(u.{name}, 0), {MOST})" for name in INTEGERS]
    booleans = [f"COALESCE(u.{name}, {otherwise})" for name, otherwise in BOOLEANS.items()]
    ids = [f"u.{name}" for name in IDS]
    types = {"created_at": "bigint"}
    types |= dict.fromkeys(TEXTS, "text") | dict.fromkeys(INTEGERS, "bigint")
    types |= dict.fromkeys(BOOLEANS, "boolean") | dict.fromkeys(IDS, "uuid")
    values = ", ".join(["COALESCE(u.created_at, d.at)", *texts, *integers, *booleans, *ids])
    record = ", ".join(f"{name} {kind}" for name, kind in types.items())
    return values, f"jsonb_to_record(d.usage) AS u({record})"


USAGE_VALUES, USAGE_RECORD = postgresql_usage()

# The wallet of the tenant at hand is locked when its first operation comes: whoever holds the lock is alone
# with the tenant's holds and budgets, and each statement of the function sees what was committed before the
# lock was granted. The wallet is written once when its last operation is done, and rows are inserted and
# deleted all together at the end: a hot wallet costs one row version a batch, a row half of what it costs
# alone. That is why a batch has at most one operation of a request.
POSTGRESQL_APPLY = f"""
CREATE FUNCTION ledger_apply(operations jsonb) RETURNS TABLE (operation uuid, moved bigint)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $body$
DECLARE
    o record;
    w wallets%ROWTYPE;
    h open_holds%ROWTYPE;
    t transfers%ROWTYPE;
    made transfers[] := '{{}}';
    opened open_holds[] := '{{}}';
    named uuid[];
    room bigint;
    charge bigint;
    -- Resolved requests, and at last the recorded ones, side by side.
    tenants uuid[] := '{{}}';
    requests uuid[] := '{{}}';
    moments bigint[] := '{{}}';
    usages jsonb[] := '{{}}';
    helds bigint[] := '{{}}';
    charges bigint[] := '{{}}';
    losses bigint[] := '{{}}';
BEGIN
    IF (SELECT count(*) <> count(DISTINCT (x.tenant, x.request))
          FROM jsonb_to_recordset(operations) AS x(tenant uuid, request uuid)) THEN
        RAISE EXCEPTION 'two operations of one request in a batch';
    END IF;

    FOR o IN
        SELECT * FROM jsonb_to_recordset(operations) AS x(
            kind text, tenant uuid, id uuid, request uuid, amount bigint, at bigint,
            budgets jsonb, context jsonb, expires_at bigint, partial boolean, overrun uuid, usage jsonb)
    LOOP
        IF w.tenant_id IS DISTINCT FROM o.tenant THEN
            UPDATE wallets SET promo = w.promo, plan = w.plan, paid = w.paid, held = w.held
             WHERE wallets.tenant_id = w.tenant_id;
            SELECT * INTO w FROM wallets WHERE wallets.tenant_id = o.tenant FOR UPDATE;
        END IF;

        SELECT * INTO h FROM open_holds WHERE tenant_id = o.tenant AND id = o.request;
        IF o.kind = 'record' THEN
            CONTINUE WHEN FOUND
                OR EXISTS (SELECT FROM usage_rows WHERE tenant_id = o.tenant AND id = o.request);
            tenants := tenants || o.tenant;
            requests := requests || o.request;
            moments := moments || o.at;
            usages := usages || o.usage;
            helds := helds || 0::bigint;
            charges := charges || 0::bigint;
            losses := losses || 0::bigint;
            CONTINUE;
        END IF;
        CONTINUE WHEN w.tenant_id IS NULL;

        operation := o.id;
        IF o.kind = 'hold' OR o.kind = 'extend' OR h.id IS NULL THEN
            SELECT amount INTO moved FROM transfers WHERE tenant_id = o.tenant AND id = o.id;
            IF FOUND THEN
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        t := NULL;
        t.tenant_id := o.tenant;
        t.id := o.id;
        t.created_at := o.at;
        t.reference := replace(o.request::text, '-', '');
        t.budgets := '[]';
        t.promo := 0;
        t.plan := 0;
        t.paid := 0;

        IF o.kind = 'hold' THEN
            CONTINUE WHEN w.promo + w.plan + w.paid - w.held < o.amount;
            IF o.budgets <> '[]' THEN
                named := ARRAY(SELECT jsonb_array_elements_text(o.budgets)::uuid);
                CONTINUE WHEN cardinality(named) > (
                    SELECT count(*) FROM budgets
                     WHERE tenant_id = o.tenant AND id = ANY (named) AND used + held + o.amount <= ceiling);
                UPDATE budgets SET held = held + o.amount WHERE tenant_id = o.tenant AND id = ANY (named);
            END IF;
            w.held := w.held + o.amount;
            t.kind := 'hold';
            t.debit := 'wallet';
            t.credit := 'held';
            t.amount := o.amount;
            made := made || t;
            h.tenant_id := o.tenant;
            h.id := o.request;
            h.amount := o.amount;
            h.budgets := o.budgets;
            h.context := o.context;
            h.created_at := o.at;
            h.expires_at := o.expires_at;
            opened := opened || h;
            moved := o.amount;
            RETURN NEXT;
            CONTINUE;
        END IF;

        CONTINUE WHEN h.id IS NULL;
        named := ARRAY(SELECT json_array_elements_text(h.budgets)::uuid);
        IF o.kind = 'extend' OR o.amount > h.amount THEN
            -- What there is room for above the hold. An overrun is held first, so that the charge fits.
            SELECT greatest(0, least(w.promo + w.plan + w.paid - w.held, min(ceiling - used - held)))
              INTO room FROM budgets WHERE tenant_id = o.tenant AND id = ANY (named);
            moved := least(room, CASE o.kind WHEN 'extend' THEN o.amount ELSE o.amount - h.amount END);
            IF o.kind = 'extend' THEN
                CONTINUE WHEN moved <= 0 OR (moved < o.amount AND NOT COALESCE(o.partial, false));
                t.reference := t.reference || ':' || replace(o.id::text, '-', '');
            ELSE
                t.reference := 'overrun:' || t.reference;
                t.id := o.overrun;
            END IF;
            IF moved > 0 THEN
                t.kind := 'hold';
                t.debit := 'wallet';
                t.credit := 'held';
                t.amount := moved;
                made := made || t;
                w.held := w.held + moved;
                h.amount := h.amount + moved;
                UPDATE budgets SET held = held + moved WHERE tenant_id = o.tenant AND id = ANY (named);
                UPDATE open_holds SET amount = h.amount WHERE tenant_id = o.tenant AND id = o.request;
            END IF;
            IF o.kind = 'extend' THEN
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        charge := CASE o.kind WHEN 'settle' THEN least(o.amount, h.amount) ELSE 0 END;
        moved := CASE o.kind WHEN 'settle' THEN charge ELSE h.amount END;
        t.id := o.id;
        t.kind := o.kind;
        t.debit := 'held';
        t.credit := CASE o.kind WHEN 'settle' THEN 'revenue' ELSE 'wallet' END;
        t.amount := moved;
        t.promo := -least(w.promo, charge);
        t.plan := -least(w.plan, charge + t.promo);
        t.paid := -(charge + t.promo + t.plan);
        t.reference := replace(o.request::text, '-', '');
        t.resolves := o.request;
        IF o.kind = 'settle' THEN
            t.budgets := h.budgets;
        END IF;
        made := made || t;
        w.promo := w.promo + t.promo;
        w.plan := w.plan + t.plan;
        w.paid := w.paid + t.paid;
        w.held := w.held - h.amount;
        IF named <> '{{}}' THEN
            UPDATE budgets SET used = used + charge, held = held - h.amount
             WHERE tenant_id = o.tenant AND id = ANY (named);
        END IF;
        IF o.kind = 'expire' AND EXISTS (
            SELECT FROM usage_rows WHERE tenant_id = o.tenant AND id = o.request) THEN
            DELETE FROM open_holds WHERE tenant_id = o.tenant AND id = o.request;
            RETURN NEXT;
            CONTINUE;
        END IF;
        tenants := tenants || o.tenant;
        requests := requests || o.request;
        moments := moments || o.at;
        usages := usages || o.usage;
        helds := helds || h.amount;
        charges := charges || charge;
        losses := losses || (o.amount - charge);
        RETURN NEXT;
    END LOOP;

    UPDATE wallets SET promo = w.promo, plan = w.plan, paid = w.paid, held = w.held
     WHERE wallets.tenant_id = w.tenant_id;
    INSERT INTO transfers SELECT * FROM unnest(made);
    INSERT INTO open_holds SELECT * FROM unnest(opened);
    INSERT INTO usage_rows (tenant_id, id, {", ".join((*USAGE, *MONEY))})
    SELECT d.tenant, d.request, {USAGE_VALUES}, d.held, d.charge, d.loss
      FROM unnest(tenants, requests, moments, usages, helds, charges, losses)
           AS d(tenant, request, at, usage, held, charge, loss), {USAGE_RECORD};
    DELETE FROM open_holds USING unnest(tenants, requests) AS d(tenant, request)
     WHERE tenant_id = d.tenant AND id = d.request;
END
$body$
"""

POSTGRESQL = (
    POSTGRESQL_APPLY,
    "REVOKE EXECUTE ON FUNCTION ledger_apply(jsonb) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION ledger_apply(jsonb) TO callmissed_system",
    """
    CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN RAISE EXCEPTION 'transfers are append-only'; END
    $body$
    """,
    """
    CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change()
    """,
)
