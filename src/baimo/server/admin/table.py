"""Every operation of the admin API. What is not in this table is not served and not described."""

from __future__ import annotations

from baimo.server.admin.accounts import KEYS, TENANTS
from baimo.server.admin.comparisons import COMPARISONS
from baimo.server.admin.conversations import CONVERSATIONS
from baimo.server.admin.describing import DESCRIBING
from baimo.server.admin.ledger import LEDGER
from baimo.server.admin.live import LIVE
from baimo.server.admin.offer import OFFER
from baimo.server.admin.operation import Operation
from baimo.server.admin.releases import RELEASES
from baimo.server.admin.reviews import REVIEWS
from baimo.server.admin.sessions import SESSIONS
from baimo.server.admin.standing import STANDING
from baimo.server.admin.state import STATE
from baimo.server.admin.task_deleted import TASK_DELETED
from baimo.server.admin.task_examples import TASK_EXAMPLES
from baimo.server.admin.task_list import TASK_LIST
from baimo.server.admin.task_making import TASK_MAKING
from baimo.server.admin.task_recipes import TASK_RECIPES
from baimo.server.admin.task_uploads import TASK_UPLOADS
from baimo.server.admin.task_versions import TASK_VERSIONS
from baimo.server.admin.tasks import TASKS
from baimo.server.admin.trying import TRYING
from baimo.server.admin.tuning import TUNING
from baimo.server.admin.tuning_files import TUNING_FILES
from baimo.server.admin.votes import VOTES
from baimo.server.admin.worth import WORTH

OPERATIONS: tuple[Operation, ...] = (
    *STANDING,
    *SESSIONS,
    *TENANTS,
    *KEYS,
    *LEDGER,
    *COMPARISONS,
    *WORTH,
    *TASK_LIST,
    *TASKS,
    *TASK_MAKING,
    *TASK_EXAMPLES,
    *TASK_RECIPES,
    *TASK_VERSIONS,
    *TASK_UPLOADS,
    *TASK_DELETED,
    *REVIEWS,
    *OFFER,
    *RELEASES,
    *TUNING,
    *TUNING_FILES,
    *LIVE,
    *TRYING,
    *CONVERSATIONS,
    *VOTES,
    *STATE,
    *DESCRIBING,
)
