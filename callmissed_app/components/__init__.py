"""The pieces pages are made of: plain HTML with the classes of `assets/styles/`, no state, no `api`.

How to use them

- `controls`: `icon`, `button`, `link_button`, `icon_button`, `field`, `text_input`, `text_area`, `select`,
  `check`, `switch`, `segments`, `copy_button`.
- `surfaces`: `card`, `stat`, `stats`, `grid`, `badge`, `message`, `empty`, `skeleton`, `table`, `row`,
  `cell`, `waiting_rows`, `facts`, `code_block`, `secret`. `table(phone=…)` says what it becomes on a phone.
- `overlays`: `dialog`, `drawer` (open while a Var is true), `menu` and `menu_button` (the browser's own
  popover).
- `chart`: `bars`, from points that the state has scaled. `door`: the card of the pages outside the frame.
- `frame`: what `layout` puts around every page; pages have no use for it.

Conventions

- Where a component takes `**props`: any HTML property or event of its element; `class_name=` adds to its own.
- A class is a noun (`card`, `badge`); a variant is `is-…` beside it (`button is-primary is-small`). A
  page's own rules live in `assets/styles/<page>.css`, picked up by name, and use the variables of
  `tokens.css` only: no colour, font size or radius is written anywhere else. Spacing is a multiple of 4 px.
- Style with classes, not with style properties: those would be compiled into scripts.
- Numbers that line up or change get the class `number`; money arrives from the state as text (`rupees_text`).
- A list that may be empty says what would be there and how to get it (`empty`). What is still loading is a
  `skeleton` of the same height. One primary button a page: `action=` of `layout.page`.
- Behaviour that needs no server is in `assets/console.js` and is asked for with attributes:
  `data-copy="text"` or `data-copy-from="#id"` copies, `data-open="#dialog"` opens a dialog, `data-close`
  closes the nearest one.
"""
