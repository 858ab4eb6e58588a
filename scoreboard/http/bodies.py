"""The request bodies: the same types validate what comes in and describe it in the OpenAPI document."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from scoreboard.model import (
    COOLDOWN_MAX_S,
    DAILY_CAP_MAX,
    ID_CHARS_MAX,
    IDEMPOTENCY_KEY_CHARS_MAX,
    MEMBERS_MAX,
    NAME_CHARS_MAX,
    REASON_CHARS_MAX,
    SCORE_MAX,
    TITLE_CHARS_MAX,
    WINDOWS,
    Operator,
    Points,
    Ties,
)
from scoreboard.names import nfc

Schema = dict[str, Any]

BATCH_SIZE_MAX = 1_000

# The pattern is for the document: its $ lets a line end pass in Python, so handlers check names by the model's rule.
Name = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, pattern="^[A-Za-z0-9._-]+$")]
_NAME: Schema = {"minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": "^[A-Za-z0-9._-]+$"}
_USER_ID: Schema = {"minLength": 1, "maxLength": ID_CHARS_MAX}
_KEY: Schema = {"minLength": 1, "maxLength": IDEMPOTENCY_KEY_CHARS_MAX, "pattern": "^[ -~]+$"}
_WINDOWS: Schema = {"uniqueItems": True, "contains": {"const": "all"}}
_POINTS: Schema = {"minimum": -SCORE_MAX, "maximum": SCORE_MAX}
# How long a text may be counts after it was brought to NFC, so handlers look at that.
Title = Annotated[str, Meta(extra_json_schema={"maxLength": TITLE_CHARS_MAX})]
BoardWindows = Annotated[
    tuple[Literal["all", "day", "week", "month"], ...],
    Meta(min_length=1, max_length=len(WINDOWS), extra_json_schema=_WINDOWS),
]
Timezone = Annotated[str, Meta(min_length=1, max_length=64)]
UserId = Annotated[str, Meta(extra_json_schema=_USER_ID)]
_DISPLAY_NAME: Schema = {"minLength": 1, "maxLength": NAME_CHARS_MAX}


class SubmissionBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """One action of one user. ``userId`` defaults to the token's sub.

    ``points`` are for actions that leave them open, and need the scope scores:any.
    """

    action_id: Name
    user_id: UserId | msgspec.UnsetType = msgspec.UNSET
    board: Name = "global"
    points: Points | msgspec.UnsetType = msgspec.UNSET


class BatchedSubmission(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """One of a batch. ``userId`` defaults to the token's sub."""

    # What these may hold is in the document only: one that is wrong is rejected by itself, not with all the others.
    action_id: Annotated[str, Meta(extra_json_schema=_NAME)]
    user_id: Annotated[str, Meta(extra_json_schema=_USER_ID)] | msgspec.UnsetType = msgspec.UNSET
    idempotency_key: Annotated[str, Meta(extra_json_schema=_KEY)] | None = None
    points: Annotated[int, Meta(extra_json_schema=_POINTS)] | None = None


class BatchBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Submissions to one board, applied in order."""

    submissions: Annotated[list[BatchedSubmission], Meta(min_length=1, max_length=BATCH_SIZE_MAX)]
    board: Name = "global"


class BoardBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A board's settings."""

    title: Title = ""
    windows: BoardWindows = ("all",)
    ties: Ties = "shared"
    timezone: Timezone = "UTC"
    operator: Operator = "sum"
    floor: Points | None = None

    def __post_init__(self) -> None:
        self.title = nfc(self.title, TITLE_CHARS_MAX)


class BoardPatch(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Those settings of a board that are to change; null gives one its default."""

    title: Title | msgspec.UnsetType | None = msgspec.UNSET
    windows: BoardWindows | msgspec.UnsetType | None = msgspec.UNSET
    ties: Ties | msgspec.UnsetType | None = msgspec.UNSET
    timezone: Timezone | msgspec.UnsetType | None = msgspec.UNSET
    operator: Operator | msgspec.UnsetType | None = msgspec.UNSET
    floor: Points | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def named(self) -> dict[str, Any]:
        """The settings that are named, with the defaults of a new board where they are null."""
        fields = {field.name: field.default for field in msgspec.structs.fields(BoardBody)}
        values = {name: getattr(self, name) for name in fields}
        return {
            name: fields[name] if value is None else value
            for name, value in values.items()
            if value is not msgspec.UNSET
        }


class Bounds(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What a trusted server may say that an action was worth."""

    min: Points
    max: Points


class ActionBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What an action is worth, and how often one user may do it."""

    points: Points | Bounds
    cooldown_seconds: Annotated[int, Meta(ge=0, le=COOLDOWN_MAX_S)] = 0
    daily_cap: Annotated[int, Meta(ge=1, le=DAILY_CAP_MAX)] | None = None
    enabled: bool = True


class UserBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What a user is called where people look; null takes the name away."""

    display_name: Annotated[str, Meta(extra_json_schema=_DISPLAY_NAME)] | None


class NoBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a request may send that has nothing to say: an object without fields."""


class RevokeBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Why an event is made undone."""

    reason: Annotated[str, Meta(min_length=1, max_length=REASON_CHARS_MAX)]

    def __post_init__(self) -> None:
        self.reason = nfc(self.reason, REASON_CHARS_MAX)


class GroupBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """All members of a group, in any order."""

    # What an id may be is in the document only: the handler tells which of thousands is wrong.
    members: Annotated[
        list[Annotated[str, Meta(extra_json_schema=_USER_ID)]],
        Meta(max_length=MEMBERS_MAX, extra_json_schema={"uniqueItems": True}),
    ]


batch_decoder = msgspec.json.Decoder(BatchBody)
submission_decoder = msgspec.json.Decoder(SubmissionBody)
board_decoder = msgspec.json.Decoder(BoardBody)
patch_decoder = msgspec.json.Decoder(BoardPatch)
action_decoder = msgspec.json.Decoder(ActionBody)
user_decoder = msgspec.json.Decoder(UserBody)
empty_decoder = msgspec.json.Decoder(NoBody)
revoke_decoder = msgspec.json.Decoder(RevokeBody)
group_decoder = msgspec.json.Decoder(GroupBody)
