/** Normalizes a text for comparison: without case and accents. */
export const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** Returns all visible text of a row, for searching. */
export const describe = (group, row) =>
  fold(
    [group, row.name, ...row.facts, ...row.chips.map((chip) => chip.text)].join(
      "\n",
    ),
  );

/** Whether a described row has all words of the query, in any order. */
export function matches(description, query) {
  return fold(query).split(/\s+/).every((word) => description.includes(word));
}
