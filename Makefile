# make demo    builds the module and runs the documentation's example
# make test    runs the specs under every Lua there is, and inside Neovim
# make build   builds the module for every Lua there is
# make check   runs the linters, and the compilers with all warnings
# make docs    makes the help and README's tables of members from the annotations
# make stamp   marks the core and the Lua files as belonging together, after a change in src
# make soak    runs random scripts on both cores in lock step for ten minutes
# make soak-redis  storms a barrier of many processes for five minutes (see test/redis_storm.lua)
# make load    uses a million parties, 100,000 barriers, 100 million waits (see test/load.lua)
# make bench   measures the module beside its rivals (see bench/run.lua)
# make install for packagers (see doc/install.md)
# make portability  runs the specs on other platforms (see tools/portability)
# make release VERSION=1.2.3 commits and tags a release, if all is green (see tools/release)
# make dist    makes what is released, in dist, from that commit
# make clean   removes what all of these made
#
# demo, test and bench install what is missing with apt-get, after they have said what;
# with APT=no they install nothing, and go on with what is here. The rockspec describes
# the build; its results are in .rocks, a tree for each Lua (see tools/common.sh).

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
BUSTED_FLAGS ?=

ROCKSPEC := luv-barrier-dev-1.rockspec
SOURCES := $(ROCKSPEC) tools/common.sh tools/rock $(wildcard src/*.[ch] src/*/*.[ch] lua/barrier/*.lua lua/barrier/*/*.lua)

# A target for each Lua, several at a time, each with its output in one piece.
EACH = $(MAKE) --no-print-directory --keep-going \
  $(if $(filter output-sync,$(.FEATURES)),--output-sync --jobs=$(JOBS))

.PHONY: build demo test install check docs stamp soak soak-redis load portability bench bench-check \
  release dist check-dist clean FORCE
.PRECIOUS: .rocks/%/built

build:
	@luas=$$(tools/luas) && $(EACH) $$(echo "$$luas" | sed 's,.*,.rocks/&/built,')

demo:
	@tools/setup demo
	@$(MAKE) --no-print-directory demo-$$(tools/luas | head -n 1)
	@if command -v nvim >/dev/null && [ -f examples/neovim/demo.lua ] && \
	  tools/luas | grep -qx 5.1; then $(MAKE) --no-print-directory demo-neovim; fi

# Neovim's -l, which does this, is not in Debian 12's.
DEMO_NEOVIM = local ok, e = pcall(dofile, 'examples/neovim/demo.lua') \
  if not ok then io.stderr:write(e) vim.cmd 'cquit' end

demo-neovim: .rocks/5.1/built
	@echo "== examples/neovim/demo.lua, Neovim"
	@tools/with 5.1 nvim --headless -u NONE --noplugin -c "lua $(DEMO_NEOVIM)" -c "qa!" 2>&1
	@echo

demo-%: .rocks/%/built
	@echo "== examples/asyncio_docs.lua, Lua $*"
	@tools/with $* lua examples/asyncio_docs.lua

test:
	@tools/setup test
	@rm -rf .build/total
	@luas=$$(tools/luas busted) || exit; \
	  luas="$$luas $$(echo "$$luas" | sed -n -e 's/^5\.4$$/&-lua/p' -e 's/^luajit$$/&-lua/p')"; \
	  if command -v nvim >/dev/null && echo "$$luas" | grep -qx 5.1; then luas="$$luas nvim"; fi; \
	  status=0; $(EACH) $$(printf 'test-%s ' $$luas) || status=$$?; \
	  tools/total $$luas && exit $$status

test-%: .rocks/%/built
	@mkdir -p .build/total
	@SPECS_SUITE=$* tools/with $* lua tools/busted.lua $(BUSTED_FLAGS)

# The same specs on the core in Lua: `make test` has them for two Luas, and .ci/run for all.
test-%-lua: .rocks/%/built
	@mkdir -p .build/total
	@BARRIER_CORE=lua SPECS_SUITE=$*-lua tools/with $* lua tools/busted.lua $(BUSTED_FLAGS)

# As a plugin manager leaves it where there is no C compiler in $PATH.
test-nvim-lua: plugin = .build/no-compiler
test-nvim-lua:
	@rm -rf $(plugin) && mkdir -p .build/total $(plugin)/bin
	@IFS=:; for folder in $$PATH; do ln -s "$$folder"/* $(plugin)/bin 2>/dev/null; done; \
	  cp -R build.lua lua src $(plugin)
	@rm -f $(plugin)/lua/barrier/core.* $(addprefix $(plugin)/bin/,cc gcc clang zig)
	@unset CC; PATH=$(CURDIR)/$(plugin)/bin BARRIER_CHECKOUT=$(CURDIR)/$(plugin) \
	  SPECS_SUITE=nvim-lua sh spec/nvim/run $(BUSTED_FLAGS)

# Inside Neovim, which gets the module that is built for Lua 5.1.
test-nvim: .rocks/5.1/built
	@mkdir -p .build/total
	@SPECS_SUITE=nvim tools/with 5.1 sh spec/nvim/run $(BUSTED_FLAGS)

.rocks/%/built: $(SOURCES)
	@tools/rock $*

# Installs the module for one Lua, without LuaRocks and without luv: see doc/install.md.
LUA_VERSION ?= 5.4
PREFIX ?= /usr/local
LUA_INCDIR ?= $(shell . tools/common.sh && lua_headers $(LUA_VERSION))
LUA_LUADIR ?= $(PREFIX)/share/lua/$(LUA_VERSION)
LUA_LIBDIR ?= $(PREFIX)/lib/lua/$(LUA_VERSION)
DOCDIR ?= $(PREFIX)/share/doc/luv-barrier
CFLAGS ?= -O2
LIBFLAG ?= $(if $(filter Darwin,$(shell uname -s)),-bundle -undefined dynamic_lookup,-shared)
INSTALL ?= install

# Each time, since the compiler, its flags and the headers may be others.
.build/install/%/core.so: FORCE
	@[ -n "$(LUA_INCDIR)" ] || { echo "name the folder of lua.h: LUA_INCDIR=..." >&2; exit 1; }
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -I"$(LUA_INCDIR)" src/core.c $(LDFLAGS) $(LIBFLAG) -o $@

install: .build/install/$(LUA_VERSION)/core.so
	$(INSTALL) -d "$(DESTDIR)$(LUA_LUADIR)/barrier/lua_core" "$(DESTDIR)$(LUA_LIBDIR)/barrier"
	$(INSTALL) -m 644 lua/barrier/*.lua "$(DESTDIR)$(LUA_LUADIR)/barrier"
	$(INSTALL) -m 644 lua/barrier/lua_core/*.lua "$(DESTDIR)$(LUA_LUADIR)/barrier/lua_core"
	$(INSTALL) -m 644 $< "$(DESTDIR)$(LUA_LIBDIR)/barrier"
	@for file in LICENSE README.md CHANGELOG.md $$(find doc examples -type f ! -name tags ! -name '*.in'); do \
	  to="$(DESTDIR)$(DOCDIR)/$${file#doc/}"; \
	  $(INSTALL) -d "$${to%/*}" && $(INSTALL) -m 644 $$file "$$to" || exit; \
	done

check:
	@tools/check

docs:
	@. tools/common.sh && "$$(any_lua)" tools/docs.lua

stamp:
	@tools/stamp write

soak: .rocks/5.4/built
	@tools/with 5.4 lua spec/lockstep/soak.lua

soak-redis: .rocks/5.4/built
	@tools/with 5.4 lua test/redis_storm.lua

load: .rocks/5.4/built
	@tools/with 5.4 lua test/load.lua full

portability:
	@tools/portability $(PLATFORMS)

bench:
	@tools/setup test
	@MAKE='$(MAKE)' tools/bench run

bench-check: .rocks/5.4/built
	@tools/bench check

release:
	@MAKE='$(MAKE)' tools/release "$(VERSION)"

dist:
	@tools/dist

# Installs what dist makes, the way users do.
check-dist:
	@tools/check-dist 5.4 luajit-5.1

# barrier and src/core.o are what luarocks make leaves here.
clean:
	rm -rf .build .rocks dist barrier src/core.o lua/barrier/core.new-* lua/barrier/core.old-*
