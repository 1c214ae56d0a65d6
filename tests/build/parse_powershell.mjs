// Parses a PowerShell file and prints, as JSON, what does not parse and the functions it defines.
// usage: node parse_powershell.mjs NODE_MODULES FILE
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, file] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(modules, 'index.js')));
const { Parser, Language } = require('web-tree-sitter');
await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load(join(modules, 'tree-sitter-powershell', 'tree-sitter-powershell.wasm')));
const root = parser.parse(readFileSync(file, 'utf8')).rootNode;

const errors = [];
const functions = [];
const visit = (node) => {
    if (node.isError || node.isMissing) {
        errors.push(`line ${node.startPosition.row + 1}: ${node.text.slice(0, 80)}`);
    }
    if (node.type === 'function_name') {
        functions.push(node.text);
    }
    node.children.forEach(visit);
};
visit(root);
console.log(JSON.stringify({ errors, functions }));
