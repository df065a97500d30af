"""The planner of worldmodel as a policy of lerobot: `--policy.type=worldmodel`.

lerobot finds the policy, its configuration and its processors by the names of the modules.
"""

from lerobot_policy_worldmodel.configuration_worldmodel import WorldmodelConfig

__all__ = ["WorldmodelConfig"]
