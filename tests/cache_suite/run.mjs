// Runs the suite against the proxy at the URL of the first argument: all of it, or the cases of the other arguments.
// Prints a line of JSON: for each case its kind (required, optimal, check) and its result (true, or the failure).
import fetch from 'node-fetch'
import { getResults, runTests } from './node_modules/http-cache-tests/client/runner.mjs'
import suites from './node_modules/http-cache-tests/tests/index.mjs'

const [base, ...wanted] = process.argv.slice(2)
const cases = suites.flatMap(suite => suite.tests).filter(test => !wanted.length || wanted.includes(test.id))
const kinds = new Map(cases.map(test => [test.id, test.kind || 'required']))

await runTests([{ tests: cases }], fetch, false, base)
const found = Object.entries(getResults()).map(([id, result]) => [id, { kind: kinds.get(id), result }])
console.log(JSON.stringify(Object.fromEntries(found)))
