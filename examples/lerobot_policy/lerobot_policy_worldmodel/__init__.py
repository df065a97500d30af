"""The planner of worldmodel as a policy of lerobot, and its table as an environment.

`--policy.type=worldmodel --env.type=worldmodel`.

lerobot finds the policy, its configuration and its processors by the names of the modules.
"""

from lerobot_policy_worldmodel.configuration_worldmodel import WorldmodelConfig
from lerobot_policy_worldmodel.environment_worldmodel import WorldmodelEnv

__all__ = ["WorldmodelConfig", "WorldmodelEnv"]
