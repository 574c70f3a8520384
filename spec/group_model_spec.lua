-- Random steps over groups agree with a plain model; `make soak` takes more of them.
local groups = require "spec.lockstep.groups"
local support = require "spec.support"

it("random steps over groups do what the model does", function()
  groups.nests = support.loop_nests
  for seed = 1, 60 do
    assert.is_nil(groups.check(seed, 200))
  end
end)
