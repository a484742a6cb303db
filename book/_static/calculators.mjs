// The worker of the calculators: Python in the browser, with the library in it. calculators.js
// starts it at the first click, and ends it with Stop. Nothing is asked of another machine.
import { loadPyodide } from "./pyodide/pyodide.mjs";

const version = new URL(self.location.href).search;
const here = (path) => new URL(path, import.meta.url).href;

const started = (async () => {
  const library = fetch(here(`mlk8s.zip${version}`)).then((response) => {
    if (!response.ok) throw new Error(`mlk8s.zip: ${response.status} ${response.statusText}`);
    return response.arrayBuffer();
  });
  const python = await loadPyodide({ indexURL: here("pyodide/") });
  python.unpackArchive(await library, "zip", { extractDir: "/mlk8s" });
  python.runPython("import sys; sys.path.insert(0, '/mlk8s')");
  return python.runPython("from mlk8s.course import calculators; calculators.answer_json");
})();

self.onmessage = async ({ data }) => {
  try {
    const answer = await started;
    self.postMessage({ stage: "calculating" });
    self.postMessage({ found: JSON.parse(answer(data.name, JSON.stringify(data.given))) });
  } catch (error) {
    self.postMessage({ fault: String(error.message || error).trim().split("\n").pop() });
  }
};
