/**
 * The lint rules that are Belljar's own: what the security model and the house style ask for and no
 * general rule knows. Where each one applies is decided in .oxlintrc.json; here is only what it
 * finds. `tests/tidy/house-rules.test.ts` plants one fault for each.
 */
const SPAWN_MODULES = new Set(["child_process", "node:child_process"]);
const ENV_MODULES = new Set(["process", "node:process"]);
const SHELL_RUNNERS = new Set(["exec", "execSync"]);
const SPAWNERS = new Set(["spawn", "spawnSync", "execFile", "execFileSync", "fork"]);
const REMOVERS = new Set(["rm", "rmSync", "rmdir", "rmdirSync"]);
const BARE_ERRORS = new Set(["Error", "TypeError", "RangeError"]);
const DISABLE_COMMENT = /^\s*(?:oxlint|eslint)-disable/u;
const DISABLE_REASON = /\s--\s+\S/u;
const TS_SUPPRESSION = /^\s*@ts-(?:ignore|nocheck|expect-error)\b(.*)/u;
const REASON_LENGTH_MIN = 8;

/** The name of what is called: `rm(…)`, `fs.rm(…)` and `fs.promises.rm(…)` are all "rm". */
function calledName(node) {
  const { callee } = node;
  if (callee.type === "Identifier") return callee.name;
  return callee.type === "MemberExpression" ? memberName(callee) : undefined;
}

function memberName(node) {
  if (!node.computed && node.property.type === "Identifier") return node.property.name;
  return node.computed && node.property.type === "Literal" ? node.property.value : undefined;
}

function isMember(node, objectName, propertyName) {
  if (node.object.type !== "Identifier" || node.object.name !== objectName) return false;
  return memberName(node) === propertyName;
}

/** The value node of `key` in an object literal among the call's arguments. */
function optionOf(node, key) {
  for (const argument of node.arguments) {
    if (argument.type !== "ObjectExpression") continue;
    for (const property of argument.properties) {
      if (property.type !== "Property" || property.computed) continue;
      const name = property.key.type === "Identifier" ? property.key.name : property.key.value;
      if (name === key) return property.value;
    }
  }
  return undefined;
}

/** Whether an option's value may be true when the program runs. */
function mayBeTruthy(value) {
  if (value === undefined) return false;
  return value.type !== "Literal" || Boolean(value.value);
}

/** Reports every way to import one of `modules`: static, re-export, dynamic, require. */
function importVisitor(context, modules, message) {
  const check = (node, source) => {
    if (source?.type === "Literal" && modules.has(source.value)) context.report({ node, message });
  };
  return {
    ImportDeclaration: (node) => check(node, node.source),
    ExportNamedDeclaration: (node) => check(node, node.source),
    ExportAllDeclaration: (node) => check(node, node.source),
    ImportExpression: (node) => check(node, node.source),
    CallExpression(node) {
      if (node.callee.type === "Identifier" && node.callee.name === "require") {
        check(node, node.arguments[0]);
      }
    },
  };
}

const rules = {
  "no-direct-spawn": {
    create: (context) =>
      importVisitor(
        context,
        SPAWN_MODULES,
        "Programs are started by packages/daemon/src/drivers only: ask a driver or a guest.",
      ),
  },

  "no-shell": {
    create(context) {
      const message = "No shell: pass an argument array to execFile or spawn, without `shell`.";
      return {
        ImportDeclaration(node) {
          if (!SPAWN_MODULES.has(node.source.value)) return;
          for (const specifier of node.specifiers) {
            if (specifier.type !== "ImportSpecifier") continue;
            if (SHELL_RUNNERS.has(specifier.imported.name)) context.report({ node, message });
          }
        },
        CallExpression(node) {
          const name = calledName(node);
          if (SPAWNERS.has(name) && mayBeTruthy(optionOf(node, "shell"))) {
            context.report({ node, message });
          }
          if (node.callee.type !== "MemberExpression" || !SHELL_RUNNERS.has(name)) return;
          const owner = node.callee.object;
          if (owner.type === "Identifier" && /child_?process/iu.test(owner.name)) {
            context.report({ node, message });
          }
        },
      };
    },
  },

  "no-recursive-rm": {
    create: (context) => ({
      CallExpression(node) {
        if (!REMOVERS.has(calledName(node)) || !mayBeTruthy(optionOf(node, "recursive"))) return;
        context.report({
          node,
          message:
            "A recursive removal follows a wrong path to the end: use the one allowed helper.",
        });
      },
    }),
  },

  "no-bare-error": {
    create: (context) => ({
      ThrowStatement(node) {
        const thrown = node.argument;
        if (thrown.type !== "NewExpression" && thrown.type !== "CallExpression") return;
        if (thrown.callee.type !== "Identifier" || !BARE_ERRORS.has(thrown.callee.name)) return;
        context.report({
          node,
          message: "Throw a BelljarError for what can be anticipated; invariant() for a bug.",
        });
      },
    }),
  },

  "no-module-let": {
    create(context) {
      const check = (declaration) => {
        if (declaration?.type !== "VariableDeclaration" || declaration.kind === "const") return;
        context.report({
          node: declaration,
          message: "Module state is shared by every user of the process: keep it in an object.",
        });
      };
      return {
        Program(node) {
          for (const statement of node.body) {
            check(statement.type === "ExportNamedDeclaration" ? statement.declaration : statement);
          }
        },
      };
    },
  },

  "reason-for-disable": {
    create: (context) => ({
      Program(node) {
        for (const comment of context.sourceCode.getAllComments()) {
          const text = comment.value;
          const suppression = TS_SUPPRESSION.exec(text);
          const isBareDisable = DISABLE_COMMENT.test(text) && !DISABLE_REASON.test(text);
          const isBareSuppression =
            suppression !== null && (suppression[1] ?? "").trim().length < REASON_LENGTH_MIN;
          if (!isBareDisable && !isBareSuppression) continue;
          context.report({
            node,
            loc: comment.loc,
            message: "Say why: end the comment with ` -- reason`.",
          });
        }
      },
    }),
  },

  "no-process-env": {
    create(context) {
      const message = "The environment is read in packages/daemon/src/config only: take a value.";
      return {
        MemberExpression(node) {
          if (isMember(node, "process", "env")) context.report({ node, message });
        },
        VariableDeclarator(node) {
          const { id, init } = node;
          if (init?.type !== "Identifier" || init.name !== "process") return;
          if (id.type !== "ObjectPattern") return;
          if (id.properties.some((p) => p.key?.name === "env")) context.report({ node, message });
        },
        ImportDeclaration(node) {
          if (!ENV_MODULES.has(node.source.value)) return;
          const names = node.specifiers.map((s) => s.imported?.name);
          if (names.includes("env")) context.report({ node, message });
        },
      };
    },
  },

  "no-date-now": {
    create(context) {
      const message =
        "Take the time from the injected Clock (packages/daemon/src/kernel/clock.ts).";
      return {
        MemberExpression(node) {
          if (isMember(node, "Date", "now")) context.report({ node, message });
        },
        NewExpression(node) {
          if (node.callee.type !== "Identifier" || node.callee.name !== "Date") return;
          if (node.arguments.length === 0) context.report({ node, message });
        },
      };
    },
  },

  "no-math-random": {
    create: (context) => ({
      MemberExpression(node) {
        if (!isMember(node, "Math", "random")) return;
        context.report({ node, message: "Math.random can be guessed: use node:crypto." });
      },
    }),
  },
};

export default { meta: { name: "house" }, rules };
