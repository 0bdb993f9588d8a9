// Compiles one standard-JSON input (stdin) to standard-JSON output (stdout) with the solc of the given node folder.
// Imports that the input does not hold are read from that folder's node_modules, and from nowhere else.
// node compile.mjs NODE_FOLDER [PACKAGE OF SOLC] [FOLDER OF IMPORTS, instead of node_modules]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const modules = path.resolve(process.argv[2], "node_modules");
const solc = createRequire(path.join(modules, "anchor.js"))(process.argv[3] ?? "solc");
const imports = path.resolve(process.argv[4] ?? modules);

function readImport(name) {
  const file = path.resolve(imports, name);
  if (!file.startsWith(imports + path.sep)) return { error: `${name} is outside of ${imports}` };
  try {
    return { contents: readFileSync(file, "utf8") };
  } catch (error) {
    return { error: `${name}: ${error.message}` };
  }
}

const input = readFileSync(0, "utf8");
process.stdout.write(JSON.stringify({ version: solc.version(), output: JSON.parse(solc.compile(input, { import: readImport })) }));
