local script = require "spec.lockstep.script"
local support = require "spec.support"

-- Slow checkers run only one seed in so many.
local every = tonumber(os.getenv "SEED_EVERY" or 1)

describe("both cores", function()
  local function check(first, last, length)
    for seed = first, last, every do
      assert.is_nil((script.check(seed, length, seed % 16 == 0)))
    end
  end

  support.it_beside("agree on random scripts", function()
    check(20001, 20070, 100)
  end)

  support.it_beside("agree on long ones", function()
    check(1007, 1014, 500)
  end)
end)
