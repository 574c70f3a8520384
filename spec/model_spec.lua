local script = require "spec.model.script"

-- Slow checkers run only one seed in so many.
local every = tonumber(os.getenv "MODEL_EVERY" or 1)

describe("barriers and the model of the contract", function()
  after_each(script.restore)

  local function check(first, last, length)
    for seed = first, last, every do
      assert.is_nil((script.check(seed, length, seed % 16 == 0)))
    end
  end

  it("agree on short random scripts", function()
    check(1, 200, 40)
  end)

  it("agree on long ones", function()
    check(1001, 1012, 500)
  end)

  it("agree on seeds that change every day", function()
    local today = os.time() - os.time() % 86400
    check(today, today + 30, 100)
  end)
end)
