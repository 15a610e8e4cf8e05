/**
 * Draws the overview's charts, each from the table below it: what the picture shows, the table says. Where this
 * script does not run, the tables are there.
 */
import uPlot from "uplot";

const HEIGHT_PX = 220;
const DAY_S = 86_400;
/** Days between two dates at the axis; uPlot takes the first that leaves room enough. */
const DATE_STEPS = [1, 2, 7, 14, 28, 56, 91, 182].map((days) => days * DAY_S);

const bars = uPlot.paths.bars?.({ size: [0.7, 48] });

interface Series {
  /** The table's column, from 1. */
  column: number;
  /** A class of the style sheet, whose colour it gets. */
  ink: string;
  look: "bars" | "line";
}

interface Look {
  series: Series[];
  /** The numbers of the left axis, and of the legend. */
  words: (value: number) => string;
  /** Where only whole numbers make sense. */
  isCount?: boolean;
  /** The axis ends here at least. */
  least: number;
}

const LOOKS: Record<string, Look> = {
  calls: {
    series: [
      { column: 1, ink: "ink-first", look: "bars" },
      { column: 2, ink: "ink-second", look: "bars" },
    ],
    words: (value) => String(value),
    isCount: true,
    least: 4,
  },
  latency: {
    series: [
      { column: 1, ink: "ink-first", look: "line" },
      { column: 2, ink: "ink-second", look: "line" },
    ],
    words: (value) => `${Number(value.toFixed(2))} s`,
    least: 1,
  },
  interrupted: {
    series: [{ column: 1, ink: "ink-first", look: "line" }],
    words: (value) => `${Math.round(value * 1000) / 10} %`,
    least: 0.1,
  },
};

/** A day is a day, whatever the reader's time zone: it is drawn, and named, as if all of them were UTC. */
const dates = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const fullDates = new Intl.DateTimeFormat("en-GB", {
  weekday: "short",
  day: "numeric",
  month: "short",
  year: "numeric",
  timeZone: "UTC",
});

function dayOf(seconds: number, format: Intl.DateTimeFormat): string {
  return format.format(new Date(seconds * 1000));
}

class Chart {
  readonly #plot: HTMLElement;
  readonly #look: Look;
  readonly #labels: string[];
  readonly #data: uPlot.AlignedData;
  #chart: uPlot | undefined;

  constructor(plot: HTMLElement, table: HTMLTableElement, look: Look) {
    this.#plot = plot;
    this.#look = look;
    const heads = [...table.querySelectorAll("thead th")];
    this.#labels = look.series.map(({ column }) => heads[column]?.textContent ?? "");
    const rows = [...(table.tBodies[0]?.rows ?? [])];
    const days = rows.map((row) => Date.parse(row.querySelector("time")?.dateTime ?? "") / 1000);
    const values = look.series.map(({ column }) => rows.map((row) => numberIn(row.cells[column])));
    this.#data = [days, ...values];
    new ResizeObserver(() => this.#chart?.setSize({ width: plot.clientWidth, height: HEIGHT_PX })).observe(
      plot,
    );
    this.draw();
  }

  /** Also anew, in the colours of another scheme. */
  draw(): void {
    this.#chart?.destroy();
    this.#chart = new uPlot(this.#options(), this.#data, this.#plot);
  }

  /** A colour of the style sheet, in words that a canvas understands. */
  #ink(name: string): string {
    const probe = document.createElement("i");
    probe.className = name;
    this.#plot.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  #options(): uPlot.Options {
    const { series, words, isCount = false, least } = this.#look;
    const text = this.#ink("ink-text");
    const grid = { stroke: this.#ink("ink-grid"), width: 1 };
    const font = `12px ${getComputedStyle(this.#plot).fontFamily}`;
    return {
      width: this.#plot.clientWidth,
      height: HEIGHT_PX,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        // Half a day of room on both sides, for the bars of the first and the last one.
        x: { time: true, range: (_, first, last) => [first - DAY_S / 2, last + DAY_S / 2] },
        y: { range: (_, __, most) => [0, Math.max(least, (most ?? 0) * 1.1)] },
      },
      axes: [
        {
          stroke: text,
          font,
          grid: { show: false },
          ticks: grid,
          space: 64,
          incrs: DATE_STEPS,
          values: (_, splits) => splits.map((day) => dayOf(day, dates)),
        },
        {
          stroke: text,
          font,
          grid,
          ticks: { show: false },
          size: 56,
          ...(isCount && { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000] }),
          values: (_, splits) => splits.map(words),
        },
      ],
      series: [
        { label: "Day", value: (_, day) => (day === null ? "" : dayOf(day, fullDates)) },
        ...series.map(({ ink, look }, index): uPlot.Series => {
          const colour = this.#ink(ink);
          return {
            label: this.#labels[index] ?? "",
            stroke: colour,
            value: (_, value) => (value === null ? "" : words(value)),
            ...(look === "bars"
              ? { fill: colour, width: 0, ...(bars && { paths: bars }), points: { show: false } }
              : { width: 2, points: { show: true, size: 5, fill: colour } }),
          };
        }),
      ],
    };
  }
}

function numberIn(cell: HTMLTableCellElement | undefined): number | null {
  const value = cell?.dataset.value;
  return value ? Number(value) : null;
}

const charts: Chart[] = [];
for (const figure of document.querySelectorAll<HTMLElement>("[data-chart]")) {
  const plot = figure.querySelector<HTMLElement>(".plot");
  const table = figure.querySelector("table");
  const look = LOOKS[figure.dataset.chart ?? ""];
  if (plot && table && look) charts.push(new Chart(plot, table, look));
}

function drawAll(): void {
  for (const chart of charts) chart.draw();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
// The admin's own switch between light, dark and automatic.
new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
